// Holds ServiceMonitors and PrometheusRules against the Prometheus operator's definitions: types, and what is required.
// Reads a JSON list of Kubernetes objects on standard input, of which it looks at those; exit 1 with each fault.
import * as models from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";

let text = "";
for await (const chunk of process.stdin) text += chunk;
let wrong = 0;
for (const object of JSON.parse(text)) {
  if (object.apiVersion !== "monitoring.coreos.com/v1") continue;
  try {
    new models[object.kind](object).validate();
  } catch (error) {
    console.error(`${object.kind} ${object.metadata?.name}: ${error.message}`);
    wrong += 1;
  }
}
process.exit(wrong ? 1 : 0);
