import { defineConfig } from "vite";

export default defineConfig({
  base: "./", // behind a proxy the page may lie under another path
  publicDir: false,
  build: {
    target: "es2022",
    assetsInlineLimit: 0, // data: URLs are not in our policy
    modulePreload: false,
    emptyOutDir: true,
  },
  server: { proxy: { "^/(v1|admin|metrics|version|health|ui/port)": "http://127.0.0.1:8080" } },
});
