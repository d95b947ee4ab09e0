/** The face of api: what main.ts may use. */
export { buildPlugin } from './plugin/app.ts'
export { assertSocketFree, listenForRoot } from './plugin/socket.ts'
export { buildApp, type AppOptions } from './app.ts'
