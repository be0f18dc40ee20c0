"""Panels drawn with matplotlib, so that a dashboard can be looked at where no Grafana runs."""
