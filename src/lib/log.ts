/** Structured log lines on standard error, which the daemon's starter sends to a file. Never a secret: log ids, codes and messages. */
import pino from "pino"

export type Log = (message: string, facts?: Readonly<Record<string, unknown>>) => void

/** One JSON object a line, written before the call returns: a crash loses none. */
export function openLog(name: string): Log {
  const log = pino({ name, base: { pid: process.pid } }, pino.destination({ fd: 2, sync: true }))
  return (message, facts = {}) => log.info(facts, message)
}
