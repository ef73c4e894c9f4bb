/** A real OpenID Connect issuer (oidc-provider) on loopback, with the form that it has for trying things out: any name signs in. */
import { createServer, type Server } from "node:http"
import { exportJWK, generateKeyPair } from "jose"
import Provider, { type Configuration } from "oidc-provider"

export interface OidcOptions {
  /** Life of ID tokens and access tokens, seconds. Default 3600. */
  readonly tokenLifeS?: number
  /** Life of a device code, seconds. Default 600. */
  readonly deviceLifeS?: number
  readonly algorithm?: "RS256" | "ES256" | "EdDSA"
}

export interface Oidc extends AsyncDisposable {
  readonly issuer: string
  /** Public client of the command line. */
  readonly clientId: string
  /** The resource for which access tokens are JWTs. */
  readonly audience: string
  readonly server: Server
  /** Requests to the token endpoint so far, by grant type. */
  readonly grants: Map<string, number>
  /** Error codes that the token endpoint answered, in order. */
  readonly answered: string[]
  /** Refuses every request to the token endpoint with this, once. */
  refuseNext(error: string): void
}

const CLIENT = "decamp-cli"
const AUDIENCE = "https://decamp.test/gateway"

export async function startOidc(options: OidcOptions = {}): Promise<Oidc> {
  const algorithm = options.algorithm ?? "RS256"
  const { privateKey } = await generateKeyPair(algorithm, { extractable: true })
  const key = { ...(await exportJWK(privateKey)), kid: "k1", use: "sig", alg: algorithm }
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const address = server.address()
  if (address === null || typeof address === "string") throw new Error("no port")
  const issuer = `http://127.0.0.1:${address.port}`
  const provider = new Provider(issuer, configuration(options, algorithm, [key]))
  const grants = new Map<string, number>()
  const answered: string[] = []
  const refusals: string[] = []
  provider.use(async (context, next) => {
    const isToken = context.path === "/token"
    const refusal = isToken ? refusals.shift() : undefined
    if (refusal !== undefined) {
      answered.push(refusal)
      context.status = 400
      context.body = { error: refusal }
      return
    }
    await next()
    if (!isToken) return
    const grant = String(context["oidc"]?.params?.grant_type ?? "none")
    grants.set(grant, (grants.get(grant) ?? 0) + 1)
    const { body } = context
    answered.push(typeof body === "object" && body !== null && "error" in body ? String(body.error) : "granted")
  })
  const answer = provider.callback()
  server.on("request", (request, response) => void answer(request, response))
  return {
    issuer,
    clientId: CLIENT,
    audience: AUDIENCE,
    server,
    grants,
    answered,
    refuseNext: (error) => void refusals.push(error),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise<void>((resolve) => server.close(() => resolve()))
    },
  }
}

function configuration(options: OidcOptions, algorithm: "RS256" | "ES256" | "EdDSA", keys: object[]): Configuration {
  const lifeS = options.tokenLifeS ?? 3600
  return {
    jwks: { keys },
    clients: [
      {
        client_id: CLIENT,
        application_type: "native",
        token_endpoint_auth_method: "none",
        grant_types: ["urn:ietf:params:oauth:grant-type:device_code", "refresh_token"],
        response_types: [],
        redirect_uris: [],
        id_token_signed_response_alg: algorithm,
      },
    ],
    cookies: { keys: ["a", "b"] },
    findAccount: async (_context, id) => ({
      accountId: id,
      claims: async () => ({ sub: id, email: `${id}@example.com` }),
    }),
    claims: { openid: ["sub"], email: ["email"] },
    enabledJWA: { idTokenSigningAlgValues: ["RS256", "ES256", "EdDSA"] },
    ttl: {
      IdToken: lifeS,
      AccessToken: lifeS,
      RefreshToken: 86_400,
      DeviceCode: options.deviceLifeS ?? 600,
      Grant: 86_400,
      Session: 86_400,
      Interaction: 600,
    },
    rotateRefreshToken: true,
    features: {
      devInteractions: { enabled: true },
      deviceFlow: { enabled: true },
      revocation: { enabled: true },
      resourceIndicators: {
        enabled: true,
        useGrantedResource: () => true,
        getResourceServerInfo: () => ({
          scope: "openid",
          audience: AUDIENCE,
          accessTokenFormat: "jwt",
          accessTokenTTL: lifeS,
          jwt: { sign: { alg: algorithm } },
        }),
      },
    },
  }
}
