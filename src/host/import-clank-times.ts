/**
 * Times as clank's `host.db` has them. Versions 1 and 2 let Go print them, with the reading of the monotonic clock and sometimes the
 * offset twice; version 3 has milliseconds (seen in `parseLegacyTimeMs` of Acksell/clank at 3f3bf30):
 *
 *     2026-05-12 14:55:53.167221395 +0000 UTC m=+1046.173573732
 *     2026-05-12 14:55:53.167221395 +0000 UTC
 *     2026-05-12 16:55:53.167221395 +0200 +0200
 *     2026-05-12T14:55:53.167221395Z   2026-05-12T14:55:53Z
 *     1778597753167
 */
const PRINTED =
  /^(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(\.\d{1,9})?(?:Z| ?([+-])(\d\d):?(\d\d)(?: [A-Za-z0-9+-]{1,10})?)(?: m=[+-]\d+(?:\.\d+)?)?$/

/** The last instant that a date can name, ms: 9999-12-31. What is later is no time. */
const LATEST_MS = 253_402_300_799_999

/** Milliseconds, whatever is finer is dropped; null for what is no time, and for Go's zero time, which means none. */
export function clankTimeMs(text: string): number | null {
  const trimmed = text.trim()
  const ms = /^\d{1,16}$/.test(trimmed) ? Number(trimmed) : printedMs(trimmed)
  return ms !== null && ms > 0 && ms <= LATEST_MS ? ms : null
}

function printedMs(text: string): number | null {
  const found = PRINTED.exec(text)
  if (found === null) return null
  const [, date = "", clock = "", fraction = "", sign = "+", hours = "0", minutes = "0"] = found
  const local = Date.parse(`${date}T${clock}.${fraction.slice(1, 4).padEnd(3, "0")}Z`)
  // A day that the month does not have would be counted into the next one.
  if (Number.isNaN(local) || !new Date(local).toISOString().startsWith(`${date}T${clock}`)) return null
  const offset = (Number(hours) * 60 + Number(minutes)) * 60_000
  return sign === "-" ? local + offset : local - offset
}

const CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

/** The instant in a ULID: its first 48 bits (github.com/ulid/spec), ms; null for another kind of id. */
export function ulidTimeMs(id: string): number | null {
  if (!/^[0-7][0-9A-HJKMNP-TV-Z]{25}$/i.test(id)) return null
  let ms = 0
  for (const digit of id.slice(0, 10).toUpperCase()) ms = ms * 32 + CROCKFORD.indexOf(digit)
  return ms > 0 && ms <= LATEST_MS ? ms : null
}
