"""Programs around the core: reports, benchmarks, the study, rendered data. The core never imports them."""
