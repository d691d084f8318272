// What runs in browsers, built into the pages' static folder: one file a part, with a name that does not change. The server gives each an address
// that changes with its content (server/edges/pages/assets.py). The same sources make the same bytes.
import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

export default defineConfig({
  resolve: {
    // Of what vtk.js brings along: Node's events as the package for browsers has them, and no XML, which is only for files of its own.
    alias: { events: "events/", xmlbuilder2: fileURLToPath(new URL("measuring/no_xml.ts", import.meta.url)) },
  },
  worker: { format: "es" },
  build: {
    outDir: process.env.IMAGESHARE_BROWSER_OUT ?? "../edges/pages/static",
    emptyOutDir: false,
    target: "es2022",
    modulePreload: false,
    license: { fileName: "LICENSES.md" },
    chunkSizeWarningLimit: 4000,
    rollupOptions: {
      preserveEntrySignatures: "strict",
      input: { viewer: "viewer/main.ts", measuring: "measuring/main.ts", portal: "portal/portal.css" },
      output: { format: "es", entryFileNames: "[name].js", chunkFileNames: "[name].js", assetFileNames: "[name][extname]" },
    },
  },
});
