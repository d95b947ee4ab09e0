/**
 * Loads what a FUSE process and its serving thread begin with, and ends: Node keeps what it has compiled for that (NODE_COMPILE_CACHE), which
 * the first mount would have to wait for. Run by bin/litevol where nothing is kept yet.
 * Neither begins: the one has no options, the other is in no thread of its own. By then everything is compiled.
 */
await Promise.allSettled([import('./main.ts'), import('./serving-thread.ts')])
