import { defineConfig } from 'vite';

// Minifying would cost memory and time and serve nobody: the bundle is read once, from this machine.
export default defineConfig({
  esbuild: { jsx: 'automatic' },
  define: { 'process.env.NODE_ENV': '"production"', 'process.env': '{}', global: 'globalThis' },
  build: { minify: false, chunkSizeWarningLimit: 50_000, target: 'es2022', reportCompressedSize: false },
});
