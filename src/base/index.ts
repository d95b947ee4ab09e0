/** The face of base: what every other folder may use. */
export * from './errors.ts'
export * from './types.ts'
export * from './clock.ts'
export * from './mode.ts'
export * from './log.ts'
export * from './uuid.ts'
