"""What grows with a cluster, measured on two cores: workers that train nothing but take as long as a model of devices says.

``make bench-scale``. With a real PostgreSQL, claims, commits and plans (``cluster``), and where there are more workers than two
cores can hold in a simulation of events with a clock of its own (``events``). ``page`` draws docs/scale.md from the figures.
"""
