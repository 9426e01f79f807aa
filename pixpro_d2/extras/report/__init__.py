"""Write one HTML page about one or several runs: health, curves, pictures over time, results, configs."""
