/**
 * How the records of earlier versions become those of this one: a list that only grows.
 * Keeps: the records of a store of schema N have been through the migrations 0 to N - 1; a store is written anew, under its new number,
 *   before anything else happens to it.
 * Leaves: reading the first version's file to first-store.ts, the lines to journal.ts.
 */

export interface Migration {
  /** What it does, for the store's history. */
  readonly what: string
  /** Turns one record into one of the next version. */
  readonly change: (record: unknown) => unknown
}

/** By number. A migration that a released litevol has run is never changed. */
export const migrations: readonly Migration[] = [
  { what: 'taken over from volumes.json', change: (record) => record }, // the file was another, the records are the same
  { what: 'attachments', change: (record) => (typeof record === 'object' ? { ...record, attachments: null } : record) },
]

/** Takes a record of schema `from` through the migrations that are left. */
export function migrate(record: unknown, from: number, list: readonly Migration[]): unknown {
  return list.slice(from).reduce((value, { change }) => change(value), record)
}

/** What the history says about the migrations from schema `from` on: `migration 1: …`. */
export function describeMigrations(from: number, list: readonly Migration[]): string {
  return list
    .slice(from)
    .map(({ what }, index) => `migration ${String(from + index)}: ${what}`)
    .join('; ')
}
