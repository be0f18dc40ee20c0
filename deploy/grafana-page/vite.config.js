// Builds the page. Of @grafana/prometheus only the module that turns answers into frames is needed.
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vite';

const transformer = './node_modules/@grafana/prometheus/dist/esm/result_transformer.mjs';

export default defineConfig({
  resolve: { alias: { '@grafana/prometheus': fileURLToPath(new URL(transformer, import.meta.url)) } },
  esbuild: { jsx: 'automatic' },
  define: { 'process.env.NODE_ENV': '"production"', global: 'window' },
  build: { target: 'esnext', minify: false, chunkSizeWarningLimit: 100000, reportCompressedSize: false },
  logLevel: 'warn',
});
