/**
 * Goal: a text that is no whole page is never one. Method: pages as the clouds send them, cut at every byte, and of other shapes.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Either from "effect/Either"
import fc from "fast-check"
import * as azurePage from "../../src/objects/azurePage.js"
import * as gcsPage from "../../src/objects/gcsPage.js"
import type { ObjectMeta } from "../../src/objects/ObjectStore.js"

const bytes = (text: string) => new TextEncoder().encode(text)

const escaped = (text: string) =>
  text.replace(/[&<>"'\u0000-\u001f]/g, (character) => `&#x${character.codePointAt(0)!.toString(16)};`)

const date = "Sat, 21 Nov 2026 07:25:50 GMT"

const azureXml = (objects: ReadonlyArray<ObjectMeta>, next = "") =>
  `\ufeff<?xml version="1.0" encoding="utf-8"?><EnumerationResults ServiceEndpoint="https://a.blob.core.windows.net/" ContainerName="c&amp;d">` +
  `<Prefix>x</Prefix><MaxResults>5</MaxResults><Blobs>${objects
    .map(
      ({ etag, key, size, version }) =>
        `<Blob><Name>${escaped(key)}</Name>${version === undefined ? "" : `<VersionId>${version}</VersionId>`}` +
        `<Properties><Creation-Time>${date}</Creation-Time><Last-Modified>${date}</Last-Modified><Etag>${etag!.slice(1, -1)}</Etag>` +
        `<Content-Length>${size}</Content-Length><Content-Type /><Content-MD5/><AccessTier>Hot</AccessTier></Properties><OrMetadata /></Blob>`
    )
    .join(
      ""
    )}</Blobs>${next === "" ? "<NextMarker />" : `<NextMarker>${escaped(next)}</NextMarker>`}</EnumerationResults>`

const gcsJson = (objects: ReadonlyArray<ObjectMeta>, next?: string) =>
  JSON.stringify({
    kind: "storage#objects",
    nextPageToken: next,
    items:
      objects.length === 0
        ? undefined
        : objects.map(({ etag, key, size, version }) => ({
            name: key,
            size: String(size),
            etag,
            generation: version ?? "1",
            updated: "2026-11-21T07:25:50.000Z"
          }))
  })

const objects = fc.array(
  fc.record({
    key: fc.fullUnicodeString({ minLength: 1, maxLength: 12 }),
    size: fc.nat(),
    etag: fc.hexaString({ minLength: 1 }).map((text) => `"0x${text}"`),
    lastModifiedMillis: fc.constant(Date.parse(date)),
    version: fc.bigUint(2n ** 70n).map(String)
  }),
  { maxLength: 4 }
)
const next = fc.option(fc.fullUnicodeString({ minLength: 1, maxLength: 8 }), { nil: undefined })

const formats = [
  { name: "Azure", decode: azurePage.decodePage, write: azureXml },
  { name: "Gcs", decode: gcsPage.decodePage, write: gcsJson }
]

for (const { decode, name, write } of formats) {
  describe(`a page of ${name}`, () => {
    it("O6 gives what it holds, whatever the keys", () =>
      fc.assert(
        fc.property(objects, next, (list, token) => {
          const page = decode(bytes(write(list, token)))
          assert.deepStrictEqual(
            Either.getOrThrow(page),
            token === undefined ? { objects: list } : { objects: list, next: token }
          )
        })
      ))

    it("O2 that is cut at any byte is no page, but Truncated", () =>
      fc.assert(
        fc.property(objects, next, (list, token) => {
          const whole = bytes(write(list, token))
          for (let length = 0; length < whole.length; length++) {
            const cut = decode(whole.subarray(0, length))
            assert.isTrue(Either.isLeft(cut) && cut.left.reason === "Truncated", `${length} of ${whole.length} bytes`)
          }
        }),
        { numRuns: 30 }
      ))

    it("O2 with any byte changed is itself, another page or none, and never dies", () =>
      fc.assert(
        fc.property(objects, next, fc.nat(), fc.nat(255), (list, token, at, byte) => {
          const whole = bytes(write(list, token))
          whole[at % whole.length] = byte
          Either.match(decode(whole), {
            onLeft: ({ reason }) => assert.include(["Truncated", "Decode"], reason),
            onRight: (page) => assert.isAtMost(page.objects.length, list.length)
          })
        }),
        { numRuns: 500 }
      ))
  })
}

const reasonOf = <A>(result: Either.Either<A, { readonly reason: string }>) =>
  Either.match(result, { onLeft: ({ reason }) => reason, onRight: () => "a page" })

describe("Azure", () => {
  const blob = (inside: string) =>
    bytes(`<EnumerationResults><Blobs><Blob>${inside}</Blob></Blobs><NextMarker/></EnumerationResults>`)
  const properties = `<Properties><Last-Modified>${date}</Last-Modified><Etag>"1"</Etag><Content-Length>1</Content-Length></Properties>`
  const keysOf = (page: Uint8Array) => Either.getOrThrow(azurePage.decodePage(page)).objects.map(({ key }) => key)

  it("O6 a name that XML cannot hold comes percent-encoded, and says so", () => {
    assert.deepStrictEqual(keysOf(blob(`<Name Encoded="true">a%EF%BF%BF%2Fb+c%25</Name>${properties}`)), [
      "a\uffff/b+c%"
    ])
    assert.deepStrictEqual(keysOf(blob(`<Name>a%EF%BF%BF</Name>${properties}`)), ["a%EF%BF%BF"])
    assert.strictEqual(reasonOf(azurePage.decodePage(blob(`<Name Encoded="true">a%zz</Name>${properties}`))), "Decode")
  })

  it("folders of a hierarchical namespace are no objects", () => {
    const folder = properties.replace("</Properties>", "<ResourceType>directory</ResourceType></Properties>")
    assert.deepStrictEqual(keysOf(blob(`<Name>folder</Name>${folder}`)), [])
    assert.deepStrictEqual(keysOf(blob(`<Name>file</Name>${folder.replace("directory", "file")}`)), ["file"])
  })

  it("O2 what is no listing is Decode, never an empty page", () => {
    const wrong = [
      "<!DOCTYPE html><html><body>Sign in</body></html>",
      "<html></html>",
      "{}",
      "<EnumerationResults><NextMarker/></EnumerationResults>",
      "<EnumerationResults><Blobs/></EnumerationResults>",
      "<EnumerationResults><Blobs/><Blobs/><NextMarker/></EnumerationResults>",
      "<EnumerationResults><Blobs></EnumerationResults><NextMarker/></Blobs>",
      "<EnumerationResults><Blobs>text</Blobs><NextMarker/></EnumerationResults>",
      "<EnumerationResults><Blobs><BlobPrefix/></Blobs><NextMarker/></EnumerationResults>",
      "<EnumerationResults><Blobs/><NextMarker/></EnumerationResults><more/>",
      "<EnumerationResults><Blobs/><NextMarker><![CDATA[x]]></NextMarker></EnumerationResults>",
      "<EnumerationResults a='1'><Blobs/><NextMarker/></EnumerationResults>"
    ]
    for (const text of wrong) assert.strictEqual(reasonOf(azurePage.decodePage(bytes(text))), "Decode", text)
    const noBlobs = ["", `<Name>a</Name>`, properties, `<Name/>${properties}`, `<Name>a&#xD800;</Name>${properties}`]
    const broken = [/<Etag>.*<\/Etag>/, /<Content-Length>.*<\/Content-Length>/, /<Last-Modified>.*<\/Last-Modified>/]
    for (const part of broken) noBlobs.push(`<Name>a</Name>${properties.replace(part, "")}`)
    noBlobs.push(`<Name>a</Name>${properties.replace(">1<", ">-1<")}`, `<Name>a&nbsp;b</Name>${properties}`)
    for (const inside of noBlobs) assert.strictEqual(reasonOf(azurePage.decodePage(blob(inside))), "Decode", inside)
  })
})

describe("Gcs", () => {
  it("O2 what is no listing is Decode, never an empty page", () => {
    const item = { name: "a", size: "1", generation: "1", updated: "2026-11-21T07:25:50Z" }
    const page = { kind: "storage#objects", items: [item] }
    assert.strictEqual(reasonOf(gcsPage.decodePage(bytes(JSON.stringify(page)))), "a page")
    const wrong: ReadonlyArray<unknown> = [
      {},
      { items: [] },
      { kind: "storage#object" },
      { ...page, items: {} },
      { ...page, items: null },
      { ...page, nextPageToken: "" },
      { ...page, nextPageToken: 1 },
      { ...page, items: [null] },
      { ...page, items: [{ ...item, name: "" }] },
      { ...page, items: [{ ...item, size: 1 }] },
      { ...page, items: [{ ...item, size: "99999999999999999" }] },
      { ...page, items: [{ ...item, generation: 1 }] },
      { ...page, items: [{ ...item, updated: "yesterday" }] },
      { ...page, items: [{ ...item, etag: 1 }] }
    ]
    for (const value of wrong) {
      const text = JSON.stringify(value)
      assert.strictEqual(reasonOf(gcsPage.decodePage(bytes(text))), "Decode", text)
    }
    for (const text of ["<html></html>", "null", "[]", "Not Found"]) {
      assert.strictEqual(reasonOf(gcsPage.decodePage(bytes(text))), "Decode", text)
    }
  })
})
