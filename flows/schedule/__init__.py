"""Schedules: when an evaluation is due (`times`), who runs it (`scheduler`), what is told of it (`alarm`), and the verbs."""
