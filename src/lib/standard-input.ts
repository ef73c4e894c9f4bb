/** Standard input of a program that is run by another one. */

/** Everything until its end, as text. @throws {Error} above `maxBytes` */
export async function readStandardInput(maxBytes: number): Promise<string> {
  const decoder = new TextDecoder()
  let [text, size] = ["", 0]
  for await (const piece of Bun.stdin.stream()) {
    size += piece.byteLength
    if (size > maxBytes) throw new Error(`standard input is longer than ${maxBytes} bytes`)
    text += decoder.decode(piece, { stream: true })
  }
  return text
}
