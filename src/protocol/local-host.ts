/** The file by which the gateway tells a local host who it is: ROOT/state/host.json, mode 0600. */
import { z } from "zod"
import { hostIdSchema, nameSchema } from "./ids.ts"

/** Its daemon listens on `socketPath(ROOT/state/run, LOCAL_HOST_SOCKET)` (lib/platform.ts). */
export const LOCAL_HOST_SOCKET = "host.sock"

export const localHostSchema = z.object({
  schema: z.literal(1),
  host: hostIdSchema,
  name: nameSchema,
  /** The gateway's host listener. */
  gatewaySocket: z.string(),
  /** What the host shows the gateway. */
  token: z.string().min(32),
  /** What the gateway shows the host. */
  inboundToken: z.string().min(32),
})
export type LocalHost = z.infer<typeof localHostSchema>
