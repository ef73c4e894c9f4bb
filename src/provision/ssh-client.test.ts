import { expect, test } from "bun:test"
import { run } from "../lib/process.ts"
import { checkDestination, shellCommand, sshClient, sshFailure } from "./ssh-client.ts"

const failure = (stderr: string) => sshFailure({ name: "box", destination: "me@box", exitCode: 255, stderr })

/** As OpenSSH 9.2 prints them; test/e2e/ssh-faults has most of them from a real sshd. */
test.each([
  ["ssh: connect to host box port 22: Connection refused\r\n", "unreachable", true, /can't be reached/],
  ["ssh: connect to host box port 22: Connection timed out", "unreachable", true, /can't be reached/],
  ["ssh: connect to host box port 22: No route to host", "unreachable", true, /can't be reached/],
  ["Timeout, server box not responding.", "unreachable", true, /can't be reached/],
  ["client_loop: send disconnect: Broken pipe", "unreachable", true, /can't be reached/],
  ["ssh: Could not resolve hostname box: Name or service not known", "unreachable", true, /address of box/],
  [
    "channel 0: open failed: connect failed\nstdio forwarding failed\nConnection closed by UNKNOWN port 65535",
    "unreachable",
    true,
    /jump host/,
  ],
  ["me@box: Permission denied (publickey,password).", "not_allowed", false, /refuses the keys/],
  ["Received disconnect from 1.2.3.4: 2: Too many authentication failures", "not_allowed", false, /refuses the keys/],
  [
    "No ED25519 host key is known for box and you have requested strict checking.\nHost key verification failed.",
    "not_allowed",
    false,
    /isn't known here/,
  ],
  [
    "@@@\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\nHost key verification failed.",
    "not_allowed",
    false,
    /not the one that was known/,
  ],
  [
    "/home/me/.ssh/config: line 3: Bad configuration option: hots\n/home/me/.ssh/config: terminating, 1 bad configuration options",
    "not_allowed",
    false,
    /own configuration/,
  ],
])("%p means what a person must know", (stderr, code, mayReturn, message) => {
  const error = failure(stderr)
  expect(error).toMatchObject({ code, message: expect.stringMatching(message), hint: expect.anything() })
  expect(error.details?.["mayReturn"] ?? false).toBe(mayReturn)
})

test("ssh's own last line is shown without what a terminal would act on", () => {
  expect(failure("first\nsome \u001b[31mnew words\u0007\n").message).toBe(
    "ssh me@box ended with 255: some  [31mnew words",
  )
})

test.each(["me@box", "box", "box.example.com", "me@10.0.0.1", "me@[::1]", "ssh://me@box:2222"])(
  "%p is a destination",
  (destination) => expect(() => checkDestination(destination)).not.toThrow(),
)

test.each(["-oProxyCommand=x", "--", "", "a b", "a\nb", "a'b", 'a"b', "$(x)", "`x`", "a\\b", "a".repeat(301)])(
  "%p is none",
  (destination) => expect(() => checkDestination(destination)).toThrow(expect.objectContaining({ code: "usage" })),
)

test("a script reaches sh as it was written, quotes and all", async () => {
  const command = shellCommand(`printf '%s|' "it's" "a  b"; echo "$((1 + 1))"`)
  for (const shell of ["sh", "bash", "dash"]) {
    const { stdout } = await run([shell, "-c", command], { env: { PATH: "/usr/bin:/bin" } })
    expect(new TextDecoder().decode(stdout)).toBe("it's|a  b|2\n")
  }
})

test("where there is no ssh, that is what is said", async () => {
  const client = sshClient({ env: () => ({ PATH: "/nonexistent" }) })
  await expect(client.run("box", "true")).rejects.toMatchObject({
    code: "unreachable",
    message: expect.stringContaining("no ssh on this machine"),
  })
})
