/**
 * The polling loop that people write: `fetch`, a timer, `p-retry`. It keeps the ETag, has a timeout, reads every body, and
 * reports what is new.
 */
import { createHash } from "node:crypto"
import pRetry from "p-retry"

export interface Known {
  etag: string | null
  hash: string | null
}

export const nothing = (): Known => ({ etag: null, hash: null })

const timeoutMillis = 120_000

export const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex")

/** Polls once; a new content is reported. */
export const pollWithFetch = async (url: string, known: Known, onChange: () => void): Promise<void> => {
  const response = await fetch(url, {
    headers: known.etag === null ? {} : { "if-none-match": known.etag },
    signal: AbortSignal.timeout(timeoutMillis)
  })
  const bytes = new Uint8Array(await response.arrayBuffer())
  if (response.status === 304) return
  if (!response.ok) throw new Error(`${url} answered ${response.status}`)
  known.etag = response.headers.get("etag")
  const hash = sha256(bytes)
  if (hash === known.hash) return
  known.hash = hash
  onChange()
}

export const pollWithRetry = (url: string, known: Known, onChange: () => void): Promise<void> =>
  pRetry(() => pollWithFetch(url, known, onChange), { retries: 5 })

export const sleep = (millis: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, millis))
