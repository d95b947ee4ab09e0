/**
 * The options of `docker volume create -o key=value` as the fields of a create call.
 * Keeps: an unknown key is refused by name; a value has to be what the API takes, and no error repeats it: it might be a PIN.
 * Leaves: what the fields mean to create-volume.ts.
 */
import type { Static } from 'typebox'
import { Compile } from 'typebox/compile'
import { ErrnoError } from '../../base/index.ts'
import { CreateBody } from '../schemas.ts'

type Body = Static<typeof CreateBody>

/** What the text of each option stands for; what it cannot stand for is passed on as it is, and refused by the schema. */
const readers: { readonly [K in keyof Omit<Required<Body>, 'name'>]: (text: string) => unknown } = {
  uid: readInteger,
  gid: readInteger,
  mode: (text) => text,
  encrypted: (text) => ({ true: true, false: false })[text] ?? text,
  pin: (text) => text,
}

const body = Compile(CreateBody)

/** Throws EINVAL. */
export function readOptions(name: string, options: Readonly<Record<string, string>>): Body {
  const fields = Object.entries(options).map(([key, text]) => {
    if (!Object.hasOwn(readers, key))
      throw new ErrnoError('EINVAL', `option '${key}': unknown; there are ${Object.keys(readers).join(', ')}`)
    return [key, readers[key as keyof typeof readers](text)] as const
  })
  const wanted = { name, ...Object.fromEntries(fields) }
  if (body.Check(wanted)) return wanted
  const [fault] = body.Errors(wanted)
  const key = fault?.instancePath.slice(1) ?? ''
  throw new ErrnoError('EINVAL', `${key === 'name' ? 'name' : `option '${key}'`}: ${fault?.message ?? 'is wrong'}`)
}

function readInteger(text: string): unknown {
  return /^\d{1,15}$/.test(text) ? Number(text) : text
}
