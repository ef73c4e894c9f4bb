/** The file by which a host that a gateway can call knows who it is: ROOT/state/host.json, mode 0600. */
import { z } from "zod"
import { hostIdSchema, nameSchema } from "./ids.ts"
import { gatewayIdentitySchema } from "./ssh-host.ts"

/** Its daemon listens on `socketPath(ROOT/state/run, LOCAL_HOST_SOCKET)` (lib/platform.ts). */
export const LOCAL_HOST_SOCKET = "host.sock"
/**
 * A host over SSH finds its gateway at `socketPath(ROOT/state/run, FORWARDED_GATEWAY_SOCKET)`: a link to the far end of the line that was
 * made last. Each line has a socket of its own, for connections that were kept open through a dead one must not be used for the next.
 */
export const FORWARDED_GATEWAY_SOCKET = "gateway.sock"

export const localHostSchema = z.object({
  schema: z.literal(1),
  /** `local`: HOME and checkouts lie below ROOT. `ssh`: the HOME is the user's own. */
  kind: z.enum(["local", "ssh"]).default("local"),
  host: hostIdSchema,
  name: nameSchema,
  /** The gateway's host listener. */
  gatewaySocket: z.string(),
  /** Where any process of the gateway answers; null: at the socket (`local` only). */
  gatewayUrl: z.url().nullable().default(null),
  /** What absolute addresses of blobs must begin with; null: all are paths of the gateway. */
  storeUrl: z.url().nullable().default(null),
  /** Whose host it is; null: nobody's any more (`ssh` only; a local host is known by its gateway's socket). */
  gateway: gatewayIdentitySchema.nullable().default(null),
  /** Since when. */
  gatewaySinceMs: z.int().nullable().default(null),
  /** What the host shows the gateway. */
  token: z.string().min(32),
  /** What the gateway shows the host. */
  inboundToken: z.string().min(32),
})
export type LocalHost = z.infer<typeof localHostSchema>
