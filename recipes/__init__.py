"""One module per paper. Each has `Settings` and `recipe(teacher, data, settings) -> tfdistill.recipe.Recipe`."""
