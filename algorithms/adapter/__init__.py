"""How a modifier attaches to the update of an algorithm that it has never seen."""
