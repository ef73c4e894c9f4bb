/** Versions that cross a machine or a disk. One history line for every change. */

/** Version of the binary, shown by `decamp --version`. */
export const DECAMP_VERSION = "0.1.0"

/** Wire protocol between CLI, hosts and gateway. 1: first. */
export const PROTOCOL_VERSION = 1

/** Manifest schema. 1: first. 2: the whole state of a checkout, nested repositories, Git LFS. */
export const MANIFEST_SCHEMA = 2

/** Schema of every `--json` document. 1: first. */
export const OUTPUT_SCHEMA = 1
