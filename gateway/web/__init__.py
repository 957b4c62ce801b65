"""HTTP: access, bodies, errors and the OpenAPI document."""
