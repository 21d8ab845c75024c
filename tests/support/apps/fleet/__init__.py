"""A Django project with two tables, of which the pages are Django's own administration."""
