/** What `decamp gateway serve` is told: a TOML file, and the environment, which wins. docs/gateway.md has the table. */
import { readFile } from "node:fs/promises"
import { z } from "zod"
import { AppError } from "../protocol/errors.ts"
import type { S3Settings } from "../storage/s3-client.ts"
import type { SignInSettings } from "./auth/sign-in.ts"

const PREFIX = "DECAMP_GATEWAY_"
const text = z.string().min(1)
const flag = z.union([z.boolean(), z.enum(["true", "false"]).transform((word) => word === "true")])
const number = z.coerce.number().int()
const url = z.url({ protocol: /^https?$/ })

/** Keys as they are written in the file; in the environment in capitals behind `DECAMP_GATEWAY_`. */
const settingsSchema = z.strictObject({
  state: text.optional(),
  listen: z
    .string()
    .regex(/^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):\d{1,5}$/, "must be HOST:PORT")
    .optional(),
  socket: text.optional(),
  public_url: url.optional(),
  database: z
    .union([z.literal("sqlite"), z.string().regex(/^postgres(ql)?:\/\//, "must be sqlite or postgres://…")])
    .default("sqlite"),
  store: z.enum(["directory", "s3"]).default("directory"),
  s3_endpoint: url.optional(),
  s3_bucket: text.optional(),
  s3_region: text.default("us-east-1"),
  s3_access_key_id: text.optional(),
  s3_secret_access_key: text.optional(),
  sign_in: z.enum(["socket", "bearer", "hs256", "oidc"]).default("socket"),
  allow_static_bearer: flag.default(false),
  bearer_token: z.string().min(32, "must have 32 characters or more").optional(),
  // RFC 7518, 3.2: as long as the hash, or longer.
  hs256_secret: z.string().min(32, "must have 32 characters or more").optional(),
  hs256_issuer: text.optional(),
  hs256_audience: text.optional(),
  oidc_issuer: url.optional(),
  oidc_audience: text.optional(),
  oidc_client_id: text.optional(),
  oidc_user_claim: text.default("sub"),
  /** Kinds of hosts that people may add: they run on this machine, or are reached with its SSH keys. */
  hosts: z
    .union([
      z.array(z.enum(["local", "ssh"])),
      z
        .string()
        .transform((words) =>
          words
            .split(",")
            .map((word) => word.trim())
            .filter(Boolean),
        )
        .pipe(z.array(z.enum(["local", "ssh"]))),
    ])
    .optional(),
  max_bytes: number.positive().optional(),
  max_blobs: number.positive().optional(),
  max_open_handoffs: number.positive().default(100),
  requests_per_minute: number.positive().default(6000),
  keep_last: number.nonnegative().default(20),
  keep_days: number.nonnegative().default(30),
  /** What a scraper shows to read `/metrics`; without one anybody who reaches the address may. */
  metrics_token: z.string().min(32, "must have 32 characters or more").optional(),
})
type Raw = z.infer<typeof settingsSchema>

/** Their values may also lie in a file of their own, named by `<key>_file`. */
const SECRETS = [
  "database",
  "s3_access_key_id",
  "s3_secret_access_key",
  "bearer_token",
  "hs256_secret",
  "metrics_token",
] as const

export interface Limits {
  /** Stored bytes of all checkpoints of one person; null: any. */
  readonly maxBytes: number | null
  readonly maxBlobs: number | null
  readonly maxOpenHandoffs: number
  readonly requestsPerMinute: number
}

export interface GatewaySettings {
  readonly stateDir: string | null
  /** Null: unix sockets only. */
  readonly listen: { readonly host: string; readonly port: number } | null
  readonly userSocket: string | null
  readonly publicUrl: string | null
  readonly postgres: string | null
  readonly s3: S3Settings | null
  readonly signIn: SignInSettings
  readonly hosts: readonly ("local" | "ssh")[]
  readonly limits: Limits
  /** What the sweep leaves of each workspace unless it says otherwise. */
  readonly retention: { readonly keepLast: number; readonly keepDays: number }
  readonly metricsToken: string | null
}

/**
 * @param file path of the TOML file; null: none
 * @throws {AppError} usage naming the key, never its value
 */
export async function readSettings(
  file: string | null,
  env: Readonly<Record<string, string | undefined>>,
): Promise<GatewaySettings> {
  const given = new Map<string, { readonly value: unknown; readonly from: string }>()
  for (const [key, value] of Object.entries(file === null ? {} : await tomlIn(file)))
    given.set(key, { value, from: file ?? "" })
  for (const [name, value] of Object.entries(env)) {
    if (!name.startsWith(PREFIX) || value === undefined || value === "") continue
    given.set(name.slice(PREFIX.length).toLowerCase(), { value, from: name })
  }
  for (const key of SECRETS) {
    const path = given.get(`${key}_file`)
    if (path === undefined) continue
    given.delete(`${key}_file`)
    given.set(key, { value: await secretIn(key, String(path.value)), from: `${key}_file` })
  }
  const parsed = settingsSchema.safeParse(Object.fromEntries([...given].map(([key, { value }]) => [key, value])))
  if (parsed.success) return settingsOf(parsed.data)
  const [issue] = parsed.error.issues
  const key = issue?.code === "unrecognized_keys" ? (issue.keys[0] ?? "") : String(issue?.path[0] ?? "")
  const why = issue?.code === "unrecognized_keys" ? "is no setting" : (issue?.message ?? "is not valid")
  throw wrong(key, why, given.get(key)?.from)
}

function wrong(key: string, why: string, from?: string): AppError {
  const place = from === undefined ? "" : ` (${from})`
  return new AppError("usage", `the setting ${key}${place} ${why}`, { hint: "docs/gateway.md lists all settings" })
}

async function tomlIn(file: string): Promise<Record<string, unknown>> {
  const content = await readFile(file, "utf8").catch((cause: unknown) => {
    throw new AppError("usage", `the settings ${file} can't be read`, { cause })
  })
  try {
    return z.record(z.string(), z.unknown()).parse(Bun.TOML.parse(content))
  } catch {
    // What the parser says may show a secret of the line.
    throw new AppError("usage", `the settings ${file} are no TOML`, { hint: 'one `key = "value"` a line' })
  }
}

async function secretIn(key: string, path: string): Promise<string> {
  const content = await readFile(path, "utf8").catch(() => {
    throw wrong(`${key}_file`, `names ${path}, which can't be read`)
  })
  return content.replace(/\r?\n$/, "")
}

function settingsOf(raw: Raw): GatewaySettings {
  const signIn = signInOf(raw)
  const isOfOne = signIn.kind === "socket" || signIn.kind === "bearer"
  if (raw.listen !== undefined && signIn.kind === "socket") {
    throw wrong("sign_in", "must be bearer, hs256 or oidc: over TCP anybody could be anybody")
  }
  return {
    stateDir: raw.state ?? null,
    listen: raw.listen === undefined ? null : addressOf(raw.listen),
    userSocket: raw.socket ?? null,
    publicUrl: raw.public_url?.replace(/\/+$/, "") ?? null,
    postgres: raw.database === "sqlite" ? null : raw.database,
    s3: raw.store === "s3" ? s3Of(raw) : null,
    signIn,
    hosts: raw.hosts ?? (isOfOne ? ["local", "ssh"] : []),
    limits: {
      maxBytes: raw.max_bytes ?? null,
      maxBlobs: raw.max_blobs ?? null,
      maxOpenHandoffs: raw.max_open_handoffs,
      requestsPerMinute: raw.requests_per_minute,
    },
    retention: { keepLast: raw.keep_last, keepDays: raw.keep_days },
    metricsToken: raw.metrics_token ?? null,
  }
}

function addressOf(listen: string): { host: string; port: number } {
  const at = listen.lastIndexOf(":")
  const port = Number(listen.slice(at + 1))
  if (port > 65_535) throw wrong("listen", "names a port above 65535")
  return { host: listen.slice(0, at).replace(/^\[(.*)\]$/, "$1"), port }
}

function s3Of(raw: Raw): S3Settings {
  return {
    endpoint: needed(raw, "s3_endpoint"),
    bucket: needed(raw, "s3_bucket"),
    region: raw.s3_region,
    accessKeyId: needed(raw, "s3_access_key_id"),
    secretAccessKey: needed(raw, "s3_secret_access_key"),
  }
}

function signInOf(raw: Raw): SignInSettings {
  switch (raw.sign_in) {
    case "socket":
      return { kind: "socket" }
    case "bearer":
      if (!raw.allow_static_bearer) {
        throw wrong("allow_static_bearer", "must be true: one secret that never ends is everybody's who reads it")
      }
      return { kind: "bearer", token: needed(raw, "bearer_token") }
    case "hs256": {
      const { hs256_issuer: issuer = null, hs256_audience: audience = null } = raw
      return { kind: "hs256", secret: needed(raw, "hs256_secret"), issuer, audience }
    }
    case "oidc": {
      const { oidc_audience: audience = null, oidc_client_id: clientId = null } = raw
      if (audience === null && clientId === null) {
        throw wrong("oidc_audience", "or oidc_client_id is missing: tokens for others would be taken")
      }
      return { kind: "oidc", issuer: needed(raw, "oidc_issuer"), audience, clientId, userClaim: raw.oidc_user_claim }
    }
  }
}

function needed(
  raw: Raw,
  key:
    | "s3_endpoint"
    | "s3_bucket"
    | "s3_access_key_id"
    | "s3_secret_access_key"
    | "bearer_token"
    | "hs256_secret"
    | "oidc_issuer",
): string {
  const value = raw[key]
  if (value === undefined) throw wrong(key, "is missing")
  return value
}
