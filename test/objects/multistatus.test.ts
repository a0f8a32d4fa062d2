import { assert, describe, it } from "@effect/vitest"
import { Either } from "effect"
import { makeReader } from "../../src/objects/multistatus.js"

const answer = `<?xml version="1.0"?>
<d:multistatus xmlns:d="DAV:"><d:response><d:href>/ü</d:href><d:propstat><d:prop><d:resourcetype/>
<d:getcontentlength>3</d:getcontentlength><d:getetag>"1"</d:getetag></d:prop><d:status>HTTP/1.1 200 OK</d:status>
</d:propstat></d:response></d:multistatus>
`
const bytes = new TextEncoder().encode(answer)

const read = (...parts: ReadonlyArray<Uint8Array>) => {
  const reader = makeReader()
  for (const part of parts) {
    const error = reader.write(part)
    if (error !== undefined) return Either.left(error)
  }
  return reader.end()
}

describe("multistatus", () => {
  it("O2 an answer that is cut at any byte is an error", () => {
    const whole = bytes.length - 1
    for (let length = 0; length < whole; length++) {
      const result = read(bytes.slice(0, length))
      assert.isTrue(Either.isLeft(result), `cut after ${length} bytes`)
      if (Either.isLeft(result)) assert.include(["Truncated", "Decode"], result.left.reason)
    }
    assert.isTrue(Either.isRight(read(bytes.slice(0, whole))))
  })

  it("an answer in two parts is the same, wherever they meet", () => {
    const expected = [{ href: "/ü", status: 200, isFolder: false, size: 3, etag: '"1"', lastModifiedMillis: undefined }]
    for (let length = 0; length <= bytes.length; length++) {
      assert.deepStrictEqual(read(bytes.slice(0, length), bytes.slice(length)), Either.right(expected))
    }
  })

  it("an answer of more bytes than its bound is an error, also in the middle of one text", () => {
    const bounded = (maxBytes: number, step: number): string | undefined => {
      const reader = makeReader(maxBytes)
      for (let at = 0; at < bytes.length; at += step) {
        const error = reader.write(bytes.slice(at, at + step))
        if (error !== undefined) return `${error.reason}: ${error.detail}, at ${at}`
      }
      return Either.isRight(reader.end()) ? undefined : "not ended"
    }
    for (const step of [1, 7, bytes.length]) {
      assert.isUndefined(bounded(bytes.length, step))
      for (const maxBytes of [0, 60, 100, bytes.length - 1]) {
        const at = Math.floor(maxBytes / step) * step
        assert.strictEqual(bounded(maxBytes, step), `Decode: sent a list of more than ${maxBytes} bytes, at ${at}`)
      }
    }
  })
})
