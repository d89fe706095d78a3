// Translates in a thread of its own, so that the page stays responsive.
import { pixelsToTensor, tensorToPixels } from "./pixels.js";

const MOST_THREADS = 8;
const runtimeUrl = (name) => new URL(`runtime/${name}`, import.meta.url).href;

let ort, session, model;

async function open(request) {
  model = request.model;
  const files = model.runtime.backends[request.backend];
  ort = await import(runtimeUrl(files.api));
  // Threads share memory, which browsers allow to cross-origin isolated pages only.
  const threads = self.crossOriginIsolated
    ? Math.min(navigator.hardwareConcurrency || 1, MOST_THREADS)
    : 1;
  ort.env.logLevel = "error";
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmPaths = { mjs: runtimeUrl(files.glue), wasm: runtimeUrl(files.binary) };
  const answer = await fetch(new URL(model.file, import.meta.url));
  if (!answer.ok) throw new Error(`the server answers ${answer.status} for ${model.file}`);
  const bytes = new Uint8Array(await answer.arrayBuffer());
  session = await ort.InferenceSession.create(bytes, {
    executionProviders: [request.backend],
    logSeverityLevel: 3, // errors only: it warns that shapes are computed on the CPU
  });
  return { threads };
}

async function translate({ pixels, width, height, times }) {
  const { data, dims } = pixelsToTensor(pixels, width, height, model);
  const milliseconds = [];
  let output;
  for (let n = 0; n < times; n++) {
    const input = new ort.Tensor("float32", data, dims);
    const started = performance.now();
    const outputs = await session.run({ [session.inputNames[0]]: input });
    const tensor = outputs[session.outputNames[0]];
    const values = await tensor.getData();
    milliseconds.push(performance.now() - started);
    output = { values, dims: tensor.dims };
    tensor.dispose();
  }
  return { pixels: tensorToPixels(output.values, output.dims, width, height), milliseconds };
}

self.onmessage = async ({ data: { id, action, request } }) => {
  try {
    const result = action === "open" ? await open(request) : await translate(request);
    self.postMessage({ id, result }, result.pixels ? [result.pixels.buffer] : []);
  } catch (error) {
    self.postMessage({ id, error: String(error?.message ?? error) });
  }
};
