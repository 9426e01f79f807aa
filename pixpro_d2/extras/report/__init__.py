"""One HTML page about one run or several: whether they are healthy, curves, pictures over time, results, configs."""
