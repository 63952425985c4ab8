module otelbee.invalid/tests/traceql

go 1.26.0

require github.com/grafana/tempo v1.5.0

require github.com/prometheus/common v0.32.1 // indirect
