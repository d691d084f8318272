// What runs in browsers, built into the pages' static folder: one file a part, with a name that does not change. The server gives each an address
// that changes with its content (server/edges/pages/assets.py). The same sources make the same bytes.
import { defineConfig } from "vite";

export default defineConfig({
  build: {
    outDir: process.env.IMAGESHARE_BROWSER_OUT ?? "../edges/pages/static",
    emptyOutDir: false,
    target: "es2022",
    modulePreload: false,
    rollupOptions: {
      input: { viewer: "viewer/main.ts", portal: "portal/portal.css" },
      output: { format: "es", entryFileNames: "[name].js", chunkFileNames: "[name].js", assetFileNames: "[name][extname]" },
    },
  },
});
