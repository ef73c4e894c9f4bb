/** Requests to servers on this machine. */
import { AppError } from "../protocol/errors.ts"

/** `fetch`, for addresses of the loopback interface only. @throws {AppError} not_allowed for any other */
export async function fetchLoopback(url: string, init: RequestInit): Promise<Response> {
  const { protocol, hostname } = new URL(url)
  if (protocol !== "http:" || hostname !== "127.0.0.1") {
    throw new AppError("not_allowed", `${hostname} is not this machine's loopback address`)
  }
  return await fetch(url, { ...init, redirect: "error" })
}
