// The page: a control, a click or the address changes the state; then everything follows it.
const conditionWords = (c, without = []) => [
  ["res", c.res.replace("x", "×")], ["batch", `batch ${c.batch}`], ["precision", c.precision], ["pass", SHOWN[c.pass] ?? c.pass], ["machine", `on ${c.machine}`],
].filter(([axis]) => !without.includes(axis)).map(([, words]) => words).join(", ");
const kindWords = () => [state.kind === "all" ? "" : SHOWN[state.kind] ?? state.kind, state.reach, state.find && `named ${state.find}`, Number(state.memory) > 0 ? `at most ${state.memory} MiB` : ""].filter(Boolean).join(", ");

// A chosen name that has no row here, and why.
const isAbsent = (variant) => !shown.some((c) => c.variant === variant);
const whyAbsent = (variant) => (cellsOf(condition).some((c) => c.variant === variant) ? "not among the cells that are chosen" : "not measured here");

function say(cell) {
  const picked = shown.filter((c) => state.pick.includes(c.variant)), absent = cell ? [] : state.pick.filter(isAbsent);
  const cells = cell ? [cell] : state.pick.length ? picked : shown.filter((c) => c.rank !== null).slice(0, 1);
  const others = (c) => shown.filter((o) => o !== c && o.fits && tied(o, c)).map((o) => o.variant);
  const same = cells.length === 1 ? others(cells[0]) : [];
  byId("said").textContent = cells.length || absent.length
    ? `${[...cells.map(sentence), ...absent.map((v) => `${v}: ${whyAbsent(v)}`)].join(" · ")}.${same.length ? ` Not distinguishable in speed from ${same.slice(0, 6).join(", ")}${same.length > 6 ? ` and ${same.length - 6} more` : ""}.` : ""}`
    : "Nothing here fits what is chosen.";
}
function answer() {
  const best = shown.filter((c) => c.rank !== null && c.speed), kinds = kindWords();
  const place = `${conditionWords(condition)}${kinds ? ` (${kinds})` : ""}`;
  const hasRatio = (c) => c.ratio && !isUnresolved(c.ratio), last = best.slice(0, 3).filter(hasRatio).pop(); // the last names what all are over
  const speed = (c) => (!hasRatio(c) ? `${estimate(c.time)} ms` : `${number(c.ratio.value)} ×${c === last ? ` ${shown.over}` : ""}`);
  const top = best.slice(0, 3).map((c) => element("span", { class: "best" }, element("b", {}, `${c.shared ? "=" : ""}${c.rank} ${c.variant}`), ` ${speed(c)}`));
  const more = best.filter((c) => c.rank === (best[2] || {}).rank).length - best.slice(0, 3).filter((c) => c.rank === (best[2] || {}).rank).length;
  byId("answer").replaceChildren(`Fastest at ${place}: `, ...(best.length ? top.flatMap((t, i) => (i ? [", ", t] : [t])) : ["nothing that was timed fits"]), more > 0 ? `, and ${more} more of equal rank.` : ".");
  byId("chooser-words").textContent = `${SHOWN[state.scope] ?? state.scope}, ${condition.res.replace("x", "×")}, batch ${condition.batch}, ${condition.precision}, ${SHOWN[condition.pass] ?? condition.pass}${kinds ? `, ${kinds}` : ""}`;
  const missing = unmet(), note = byId("unmeasured");
  note.hidden = !missing.length;
  if (missing.length) {
    const wanted = missing.map((a) => `${TITLES[a].toLowerCase()} ${a === "res" ? size(state.res).replace("x", "×") : state[a]}`).join(", ");
    note.replaceChildren(`Not measured here: ${wanted}. Shown is the nearest: ${conditionWords(condition)}. This measures it: `, element("code", {}, command(shown)));
  }
}
function chips() {
  const known = [...new Set(shown.map((c) => c.variant))];
  byId("known").replaceChildren(...known.map((v) => element("option", { value: v })));
  byId("chips").replaceChildren(...state.pick.map((variant, i) => {
    const absent = isAbsent(variant);
    const chip = element("button", { type: "button", class: absent ? "chip absent" : "chip", "aria-label": `Remove ${variant}${absent ? `, ${whyAbsent(variant)}` : ""}` }, `${variant} ×`);
    chip.style.borderColor = `var(--c${i})`;
    chip.addEventListener("click", () => { toggle(variant); byId("add").focus(); });
    return chip;
  }));
  byId("add").disabled = state.pick.length >= PICKS;
}
function toggle(variant) {
  const place = state.pick.indexOf(variant);
  if (place >= 0) state.pick.splice(place, 1);
  else if (state.pick.length < PICKS) state.pick.push(variant);
  update();
}
async function update() {
  condition = settle();
  if (!condition) { byId("answer").textContent = "These runs hold no cell."; return; }
  const block = byId(`block-${condition.block}`);
  if (!block && document.readyState === "loading") { addEventListener("DOMContentLoaded", update, { once: true }); return; }
  shown = chosenCells();
  fillControls();
  writeAddress();
  answer();
  chips();
  say(null);
  await draw();
  const panel = document.querySelector("#panels > .open");
  if (panel && ["panel-cells", "panel-resolution"].includes(panel.id)) fillPanel(panel);
  if (!document.documentElement.dataset.ready) document.documentElement.dataset.ready = String(Math.round(performance.now()));
}
function choose(name, value) {
  state[name] = value;
  if (AXES.includes(name)) {
    if (["scope", "machine"].includes(name)) { asked = new Set([name]); if (name === "scope") state.kind = anyKind(value); } else asked.add(name);
  }
  update();
}

for (const name of CHOICES) {
  const input = byId(`choose-${name}`).querySelector("select, input");
  input.addEventListener(input.tagName === "INPUT" ? "input" : "change", () => {
    const typed = byId(`other-${name}`);
    if (typed) typed.parentElement.hidden = input.value !== OTHER;
    if (typed && input.value === OTHER) { typed.focus(); return; }
    choose(name, input.value);
  });
}
for (const name of ["res", "batch"]) {
  const typed = byId(`other-${name}`);
  typed.addEventListener("change", () => {
    const right = name === "res" ? /^\s*[1-9]\d{0,4}(\s*[x×]\s*[1-9]\d{0,4})?\s*$/i : /^\s*[1-9]\d{0,5}\s*$/;
    typed.setAttribute("aria-invalid", String(!right.test(typed.value)));
    if (right.test(typed.value)) { typed.parentElement.hidden = true; choose(name, name === "res" ? size(typed.value.replace(/\s/g, "")) : typed.value.trim()); }
  });
}
byId("ranked-chart").addEventListener("scroll", sayMoreRanked);
byId("ranked-more").addEventListener("click", () => byId("ranked-chart").scrollBy(0, byId("ranked-chart").clientHeight - 48));
byId("add").addEventListener("change", () => {
  const found = shown.find((c) => c.variant === byId("add").value.trim());
  if (found && !state.pick.includes(found.variant)) toggle(found.variant);
  if (found) byId("add").value = "";
});
all("[data-action]").forEach((button) => button.addEventListener("click", () => condition && ACTIONS[button.dataset.action]()));
tabs.forEach((tab, i) => {
  tab.addEventListener("click", () => { openTab(state.tab === tab.dataset.tab ? "" : tab.dataset.tab); writeAddress(); });
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: -i, End: tabs.length - 1 - i }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    openTab(tabs[(i + step + tabs.length) % tabs.length].dataset.tab, true);
    writeAddress();
  });
});
byId("cells-all").addEventListener("change", fillCells);
byId("resolution-measure").addEventListener("change", drawResolution);
document.querySelector("#chooser form").addEventListener("submit", (event) => event.preventDefault());
const theme = byId("theme"), root = document.documentElement;
const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
const nameTheme = () => { theme.textContent = `${dark() ? "light" : "dark"} theme`; }; // what a press does
theme.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; nameTheme(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", nameTheme);
nameTheme();
document.addEventListener("keydown", (event) => { if (event.key === "Escape") { tip.hidden = true; point(""); } });
addEventListener("hashchange", () => { readAddress(); openTab(state.tab); update(); });
addEventListener("beforeprint", () => { all("#panels > section").forEach(fillPanel); all("details").forEach((d) => { d.open = true; }); });
let resizing = 0;
addEventListener("resize", () => { clearTimeout(resizing); resizing = setTimeout(() => condition && draw(), 150); });
byId("chooser").open = innerWidth >= 700;
readAddress();
update();
if (state.tab) { if (document.readyState === "loading") addEventListener("DOMContentLoaded", () => openTab(state.tab), { once: true }); else openTab(state.tab); }
