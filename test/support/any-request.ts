/** Requests made up from a route's own schema, so that a new route needs no words of its own in a test. */
import type { z } from "zod"
import {
  blobIdSchema,
  checkpointIdSchema,
  handoffIdSchema,
  hostIdSchema,
  incarnationSchema,
  nameSchema,
  workspaceIdSchema,
} from "../../src/protocol/ids.ts"

/** What an id is an id of. */
export type Kind = "workspace" | "handoff" | "checkpoint" | "host" | "incarnation" | "blob" | "name" | "token"
export type Ids = Readonly<Record<Kind, string>>

const KINDS: ReadonlyMap<unknown, Kind> = new Map<unknown, Kind>([
  [workspaceIdSchema, "workspace"],
  [handoffIdSchema, "handoff"],
  [checkpointIdSchema, "checkpoint"],
  [hostIdSchema, "host"],
  [incarnationSchema, "incarnation"],
  [blobIdSchema, "blob"],
  [nameSchema, "name"],
])

/** Where in a body an id stands. */
export interface Place {
  readonly path: readonly (string | number)[]
  readonly kind: Kind
}

export interface Made {
  readonly body: unknown
  readonly places: readonly Place[]
}

/** A body that the schema takes, with the ids given, and where they stand. @throws {Error} for a schema of a kind that it doesn't know */
export function bodyFor(schema: z.ZodType, ids: Ids): Made {
  const places: Place[] = []
  const body = valueOf(schema, ids, [], places)
  const parsed = schema.safeParse(body)
  if (!parsed.success) throw new Error(`no body could be made up: ${parsed.error.message} in ${JSON.stringify(body)}`)
  return { body, places }
}

const TEXTS = [
  "x",
  "/tmp/x",
  "0".repeat(64),
  "0".repeat(40),
  "cp_000000",
  "1.2.3",
  "a@b",
  "https://x.example",
  "delete",
]
const NUMBERS = [1, 0, 100, 1_700_000_000_000]

function valueOf(schema: z.ZodType, ids: Ids, path: readonly (string | number)[], places: Place[]): unknown {
  const kind = KINDS.get(schema)
  if (kind !== undefined) {
    places.push({ path, kind })
    return ids[kind]
  }
  const { def } = schema as unknown as { def: Record<string, unknown> & { type: string } }
  const inner = (key: string): unknown => valueOf(def[key] as z.ZodType, ids, path, places)
  switch (def.type) {
    case "object":
      return Object.fromEntries(
        Object.entries(def["shape"] as Record<string, z.ZodType>).map(([key, each]) => [
          key,
          valueOf(each, ids, [...path, key], places),
        ]),
      )
    case "optional":
    case "nullable":
    case "default":
    case "readonly":
      return inner("innerType")
    case "lazy":
      return valueOf((def["getter"] as () => z.ZodType)(), ids, path, places)
    case "pipe":
      return inner("in")
    case "array":
      return [valueOf(def["element"] as z.ZodType, ids, [...path, 0], places)]
    case "union":
      return valueOf((def["options"] as z.ZodType[])[0] as z.ZodType, ids, path, places)
    case "record":
      return {}
    case "literal":
      return (def["values"] as unknown[])[0]
    case "enum":
      return Object.values(def["entries"] as object)[0]
    case "boolean":
      return false
    case "unknown":
    case "any":
      return {}
    case "null":
      return null
    case "string":
    case "number":
      return fitting(schema, def.type === "string" ? TEXTS : NUMBERS, path)
    default:
      throw new Error(`${path.join(".")}: values of ${def.type} can't be made up yet: teach any-request.ts`)
  }
}

function fitting(schema: z.ZodType, candidates: readonly unknown[], path: readonly (string | number)[]): unknown {
  const found = candidates.find((each) => schema.safeParse(each).success)
  if (found === undefined) throw new Error(`${path.join(".")}: no value fits: teach any-request.ts`)
  return found
}

/** The same body with another id in one place. */
export function withIdAt(body: unknown, path: readonly (string | number)[], id: string): unknown {
  const [first, ...rest] = path
  if (first === undefined) return id
  if (Array.isArray(body)) return body.map((each, at) => (at === first ? withIdAt(each, rest, id) : each))
  const fields = body as Record<string, unknown>
  return { ...fields, [first]: withIdAt(fields[first], rest, id) }
}

/** Stands for whatever a handler is wired to, so that it comes as far as reading its body. */
const ANYTHING: unknown = new Proxy(() => {}, {
  get: (_, key) => (key === "then" ? undefined : key === Symbol.toPrimitive ? () => "x" : ANYTHING),
  apply: () => ANYTHING,
})

/** The schema that a handler reads its body by; null when it reads none. */
export async function schemaReadBy(
  table: (services: never) => readonly { readonly method: string; readonly path: string }[],
  at: number,
  params: Readonly<Record<string, string>>,
): Promise<z.ZodType | null> {
  const route = table(ANYTHING as never)[at] as unknown as Record<"answer" | "stream", (...words: unknown[]) => unknown>
  let read: z.ZodType | null = null
  const asked = {
    who: ANYTHING,
    params,
    signal: new AbortController().signal,
    json: async (schema: z.ZodType) => {
      read ??= schema
      throw new Error("read")
    },
  }
  try {
    await (route.answer ?? route.stream)(asked, () => {}, asked.signal)
  } catch {
    // It read its body, or met something that isn't there.
  }
  return read
}
