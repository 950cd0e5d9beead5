// Bundles a page for browsers: bundle.mjs SOURCE OUTPUT. Prints nothing.
import { build } from 'esbuild'

const [source, output] = process.argv.slice(2)
await build({
  entryPoints: [source],
  outfile: output,
  bundle: true,
  jsx: 'automatic',
  define: { 'process.env.NODE_ENV': '"production"' },
  logLevel: 'warning',
})
