/**
 * Bytes of a database as text, and text that a database keeps as it is.
 */
import * as Either from "effect/Either"

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

/** The text that bytes are in UTF-8, else their base64: two that differ never become the same. */
export const textOfBytes = (bytes: Uint8Array): string =>
  Either.getOrElse(
    Either.try(() => decoder.decode(bytes)),
    () => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64")
  )

/** Whether a database gives a text back as it was: without NUL, which ends it, and without half a surrogate pair. */
export const isStorable = (text: string): boolean =>
  !/\0|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/.test(text)
