/**
 * The lint rules: typescript-eslint with types, the import table of the house, and the sizes a file and a function may have.
 * Keeps: no `any`, no `!`, no folder imports another that it may not know; each message says why.
 * Leaves: layout to prettier.
 */
import tseslint from 'typescript-eslint'

const folders = ['base', 'engine', 'fuse', 'mount', 'manager', 'api', 'cli']

/** What each folder may import: of another folder its face (index.ts) or the one file named. Then the packages and
 *  built-ins that it may not know, each with the reason. Whatever is not named under `may` is refused. */
const table = {
  base: {
    may: {},
    why: 'base is what everybody stands on: it imports nothing of ours',
    not: [
      ['^node:(fs|net|http|https|child_process|sqlite)(/|$)|^(better-sqlite3|fastify|execa|commander)(/|$)', 'base does no I/O of its own'],
    ],
  },
  engine: {
    may: { base: 'index' },
    why: 'engine knows no HTTP, FUSE or process: it imports base only, so that it can be tested alone',
    not: [
      ['^node:(net|http|https)$|^(fastify|@fastify/.*|commander)$', 'engine knows no HTTP and no command line'],
      ['^node:(child_process|cluster)$|^execa$', 'engine knows no process (only owner.ts may, to hold a lock by flock(1))'],
    ],
  },
  fuse: {
    may: { base: 'index' },
    why: 'fuse is the kernel protocol alone: it imports base only; fuse and engine meet in mount',
    not: [
      ['^better-sqlite3$|^node:sqlite$', 'fuse knows no SQLite: fuse and engine meet in mount'],
      ['^node:(http|https)$|^(fastify|@fastify/.*|commander)$', 'fuse knows no HTTP and no command line'],
    ],
  },
  mount: {
    may: { base: 'index', engine: 'index', fuse: 'index' },
    why: 'mount is the FUSE process: it imports base, engine and fuse, and knows nobody who starts it',
    not: [
      ['^better-sqlite3$|^node:sqlite$|^(fastify|@fastify/.*|commander)$', 'mount reaches SQLite through engine only, and serves no HTTP'],
    ],
  },
  manager: {
    may: { base: 'index', engine: 'index', fuse: 'mount', mount: 'messages' },
    why: 'manager imports base, engine (volumes not mounted), fuse/mount.ts (opens /dev/fuse, mounts) and mount/messages.ts',
    not: [
      ['^better-sqlite3$|^node:sqlite$', 'manager reaches SQLite through engine only'],
      ['^fastify$|^@fastify/|^commander$', 'HTTP belongs to api, the command line to cli'],
    ],
  },
  api: {
    may: { base: 'index', manager: 'index' },
    why: 'api imports base and manager: a handler makes one manager call',
    not: [['^better-sqlite3$|^node:(sqlite|child_process)$|^execa$', 'api starts nothing and opens no volume: manager does']],
  },
  cli: {
    may: { base: 'index', engine: 'index' },
    why: 'cli imports base, engine, main.ts and config.ts: it works over a file or over a running manager',
    not: [['^better-sqlite3$|^node:sqlite$|^fastify$|^@fastify/', 'cli reaches SQLite through engine and HTTP serving through main.ts']],
  },
}

/** The patterns of `no-restricted-imports` for one folder. */
function restricted(folder, { may, why, not }) {
  const allowed = Object.entries(may).map(([name, file]) => `${name}/${file}\\.ts$`)
  const others = folders.filter((name) => name !== folder).join('|')
  const face = allowed.length > 0 ? `(?!${allowed.join('|')})` : ''
  const top = { cli: [], base: ['main', 'config'] }[folder] ?? ['main']
  return [
    { regex: `^(\\.\\./)+${face}(${others})/`, message: `${why}; of a folder only its index.ts, or the one file named (STYLE, folders).` },
    { regex: '^(\\.\\./)+(test|bench)/', message: 'src imports nothing from test or bench.' },
    ...top.map((name) => ({
      regex: `^(\\.\\./)+${name}\\.ts$`,
      message: `${name}.ts builds the server out of the folders: none of them imports it.`,
    })),
    ...not.map(([regex, message]) => ({ regex, message: `${message}.` })),
  ]
}

const imports = (patterns) => ({ 'no-restricted-imports': ['error', { patterns }] })

/** One block per folder, then the one exception: the owner's lock is held by flock(1). */
const importTable = [
  ...Object.entries(table).map(([folder, row]) => ({ files: [`src/${folder}/**/*.ts`], rules: imports(restricted(folder, row)) })),
  {
    files: ['src/engine/owner.ts'],
    rules: imports(restricted('engine', table.engine).filter(({ regex }) => !regex.includes('child_process'))),
  },
  {
    files: ['src/main.ts'],
    rules: imports([
      { regex: '^\\./(engine|fuse|mount|cli)/', message: 'main.ts builds the server out of manager and api, and nothing else.' },
    ]),
  },
]

export default tseslint.config(
  { ignores: ['node_modules/', 'dist/', 'runtime/'] },
  tseslint.configs.base,
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.recommendedTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/no-non-null-assertion': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      // node:test returns a promise from test() that the runner awaits itself.
      '@typescript-eslint/no-floating-promises': [
        'error',
        { allowForKnownSafeCalls: [{ from: 'package', package: 'node:test', name: ['test', 'it', 'describe', 'suite'] }] },
      ],
      // An async function without await is how an interface that returns a promise is met.
      '@typescript-eslint/require-await': 'off',
      // It takes our branded numbers for something else than numbers.
      '@typescript-eslint/no-unsafe-unary-minus': 'off',
      eqeqeq: 'error',
      'no-var': 'error',
      'prefer-const': 'error',
    },
  },
  // A test's context and fixtures are taken apart on entry, and their methods use no `this`.
  { files: ['test/**/*.ts'], rules: { '@typescript-eslint/unbound-method': 'off' } },
  {
    files: ['src/**/*.ts'],
    rules: {
      'max-lines': ['error', { max: 400 }],
      'max-lines-per-function': ['error', { max: 60, skipBlankLines: true, skipComments: true }],
      'no-console': 'error',
      'no-restricted-properties': [
        'error',
        {
          property: 'pragma',
          message: "engine/pragmas.ts runs and reads pragmas: better-sqlite3's own leaves 2 KB in the serving thread each time.",
        },
      ],
    },
  },
  { files: ['src/cli/**/*.ts', 'src/**/generate-*.ts'], rules: { 'no-console': 'off' } },
  ...importTable,
)
