// The OTLP receiver of the OpenTelemetry Collector, wired to its file exporter: what the tests export to.
//
//	collector HTTP_ADDRESS GRPC_ADDRESS FILE [CERTIFICATE KEY]
//
// With a certificate and a key both addresses take TLS alone. These are the Collector's own components with their own
// defaults. Its shell (configuration, extensions, its own telemetry) is left out: it is most of what would have to be
// compiled, and nothing of what is tested. The program ends at SIGTERM.
package main

import (
	"context"
	"errors"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/open-telemetry/opentelemetry-collector-contrib/exporter/fileexporter"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	metric "go.opentelemetry.io/otel/metric/noop"
	trace "go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/zap"
)

// A host without extensions.
type host struct{}

func (host) GetExtensions() map[component.ID]component.Component { return nil }

func run(http, grpc, file string, tls map[string]any) error {
	ctx := context.Background()
	logger, err := zap.NewProduction()
	if err != nil {
		return err
	}
	telemetry := component.TelemetrySettings{
		Logger:         logger,
		TracerProvider: trace.NewTracerProvider(),
		MeterProvider:  metric.NewMeterProvider(),
		Resource:       pcommon.NewResource(),
	}

	exporters := fileexporter.NewFactory()
	exporting := exporters.CreateDefaultConfig()
	settings := confmap.NewFromStringMap(map[string]any{"path": file, "append": true, "flush_interval": "100ms"})
	if err := settings.Unmarshal(exporting); err != nil {
		return err
	}
	sending := exporter.Settings{ID: component.NewID(exporters.Type()), TelemetrySettings: telemetry}
	traces, err := exporters.CreateTraces(ctx, sending, exporting)
	if err != nil {
		return err
	}
	logs, err := exporters.CreateLogs(ctx, sending, exporting)
	if err != nil {
		return err
	}

	receivers := otlpreceiver.NewFactory()
	receiving := receivers.CreateDefaultConfig()
	protocols := map[string]any{}
	for name, address := range map[string]string{"http": http, "grpc": grpc} {
		protocol := map[string]any{"endpoint": address}
		if tls != nil {
			protocol["tls"] = tls
		}
		protocols[name] = protocol
	}
	settings = confmap.NewFromStringMap(map[string]any{"protocols": protocols})
	if err := settings.Unmarshal(receiving); err != nil {
		return err
	}
	taking := receiver.Settings{ID: component.NewID(receivers.Type()), TelemetrySettings: telemetry}
	traceReceiver, err := receivers.CreateTraces(ctx, taking, receiving, traces)
	if err != nil {
		return err
	}
	logReceiver, err := receivers.CreateLogs(ctx, taking, receiving, logs)
	if err != nil {
		return err
	}

	components := []component.Component{traces, logs, traceReceiver, logReceiver}
	for _, one := range components {
		if err := one.Start(ctx, host{}); err != nil {
			return err
		}
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	<-stop
	for at := range components {
		err = errors.Join(err, components[len(components)-1-at].Shutdown(ctx))
	}
	return err
}

func main() {
	if len(os.Args) != 4 && len(os.Args) != 6 {
		log.Fatal("usage: collector HTTP_ADDRESS GRPC_ADDRESS FILE [CERTIFICATE KEY]")
	}
	var tls map[string]any
	if len(os.Args) == 6 {
		tls = map[string]any{"cert_file": os.Args[4], "key_file": os.Args[5]}
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3], tls); err != nil {
		log.Fatal(err)
	}
}
