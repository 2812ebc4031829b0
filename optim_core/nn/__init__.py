"""The layers that networks are made of, beside torch's, and how their weights start. Knows neither specs nor studies."""
