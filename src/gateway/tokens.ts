/** Tokens of hosts: random, kept as their hash, worth one (tenant, host). */

export function newToken(): string {
  return Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString("base64url")
}

/** SHA-256, hexadecimal. A token has 256 random bits: it needs no salt, and looking its hash up tells nothing by its time. */
export function hashOfToken(token: string): string {
  return new Bun.CryptoHasher("sha256").update(token).digest("hex")
}

/** The token of an `Authorization: Bearer` header, null when there is none. */
export function bearerOf(header: string | undefined): string | null {
  const match = /^Bearer ([A-Za-z0-9._~+/=-]{16,512})$/.exec(header ?? "")
  return match?.[1] ?? null
}
