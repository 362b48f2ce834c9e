"""EHRSQL: questions over a hospital database that are answered with SQL. Shared by the families of that kind."""
