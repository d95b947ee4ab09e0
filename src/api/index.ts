/** The face of api: what main.ts may use. */
export { buildApp, type AppOptions } from './app.ts'
