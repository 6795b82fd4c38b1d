"""Vision attention mechanisms, one idea per file. Importing this package declares all of them."""

import importlib
import pkgutil

for _found in pkgutil.walk_packages(__path__, prefix=f"{__name__}."):
    importlib.import_module(_found.name)
