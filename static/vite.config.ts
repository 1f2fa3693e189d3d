import { svelte } from '@sveltejs/vite-plugin-svelte'
import { defineConfig } from 'vite'

// A hub started by `python3 scripts/dev.py up`, for `npm run dev`.
const hub = 'http://127.0.0.1:3000'

export default defineConfig({
  plugins: [svelte()],
  build: {
    outDir: '../hub_server/web',
    emptyOutDir: true,
    target: 'es2022',
    // The hub's content security policy allows neither inline scripts nor data: addresses.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    license: { fileName: 'licenses.md' },
  },
  server: {
    host: '127.0.0.1',
    port: 5173,
    proxy: { '/api': hub, '/ws': { target: hub, ws: true } },
  },
})
