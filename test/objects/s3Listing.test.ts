/**
 * Goal: a page of a listing is read as it was written, in whatever way a server writes one, and anything less than a page is
 * an error: what is taken for an empty page or for the last one would remove objects.
 */
import { assert, describe, it } from "@effect/vitest"
import type { ObjectMeta } from "effect-periscope/objects/ObjectStore"
import { Either, FastCheck } from "effect"
import { scan } from "../../src/objects/s3Listing.js"
import * as pages from "./s3Pages.js"

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)

const scanned = (text: string) => scan(bytes(text))

const reasonOf = (text: string | Uint8Array) =>
  Either.match(typeof text === "string" ? scanned(text) : scan(text), {
    onLeft: ({ reason }) => reason,
    onRight: () => "page"
  })

const detailOf = (text: string) =>
  Either.match(scanned(text), { onLeft: ({ detail }) => detail, onRight: () => "page" })

const objects: ReadonlyArray<ObjectMeta> = [
  { key: "a b/c+d.json", size: 12, etag: '"0123456789abcdef0123456789abcdef"', lastModifiedMillis: 1_700_000_000_123 },
  { key: "ä/😀", size: 0 }
]

describe("a page of a listing", () => {
  it("O6 is read as it was written: any order, entities, encodings, blanks, unknown elements", () => {
    FastCheck.assert(
      FastCheck.property(
        FastCheck.array(pages.object, { maxLength: 6 }),
        FastCheck.option(pages.text, { nil: undefined }),
        pages.writing,
        (written, next, writing) => {
          const page = scanned(pages.write(written, next, writing))
          assert.deepStrictEqual(
            page,
            Either.right(next === undefined ? { objects: written } : { objects: written, next })
          )
        }
      ),
      { numRuns: 3000 }
    )
  })

  it("O2 that ends too early anywhere is Truncated", () => {
    const whole = pages.write([{ ...objects[0]! }, { key: "plain", size: 1 }], "token&more")
    assert.strictEqual(reasonOf(whole), "page")
    for (let length = 0; length < whole.length; length++) {
      assert.strictEqual(reasonOf(whole.slice(0, length)), "Truncated", whole.slice(0, length))
    }
  })

  it("O2 that ends too early anywhere is none, however it was written", () => {
    FastCheck.assert(
      FastCheck.property(
        FastCheck.array(pages.object, { maxLength: 3 }),
        FastCheck.option(pages.text, { nil: undefined }),
        pages.writing,
        FastCheck.double({ min: 0, max: 0.999, noNaN: true }),
        (written, next, writing, part) => {
          const whole = bytes(pages.write(written, next, writing))
          assert.notStrictEqual(reasonOf(whole.slice(0, Math.floor(whole.length * part))), "page")
        }
      ),
      { numRuns: 3000 }
    )
  })

  it("O2 that lost a piece in its middle is none, or still has all of its keys", () => {
    const whole = pages.write(
      Array.from({ length: 3 }, (_, index) => ({ key: `key-${index}`, size: index })),
      "token"
    )
    for (let start = 0; start < whole.length; start++) {
      for (const length of [1, 7, 40, 160]) {
        const page = scanned(whole.slice(0, start) + whole.slice(start + length))
        if (Either.isRight(page)) assert.strictEqual(page.right.objects.length, 3)
      }
    }
  })

  it("O2 is never read out of anything else", () => {
    const page = pages.write(objects)
    const others: ReadonlyArray<readonly [text: string, detail: RegExp]> = [
      ["<!DOCTYPE html><html><body>Sign in</body></html>", /another document/],
      ["<html><body>ListBucketResult</body></html>", /another document/],
      ['{"ListBucketResult":{}}', /something else than XML/],
      ["<Error><Code>NoSuchBucket</Code></Error>", /another document/],
      ["<ListAllMyBucketsResult></ListAllMyBucketsResult>", /another document/],
      ["<ListBucketResults></ListBucketResults>", /another document/],
      [`${page}<html></html>`, /more behind/],
      [`${page}${page}`, /more behind/],
      ["<ListBucketResult/>", /whether it is the last page/],
      ["<ListBucketResult></ListBucketResult>", /whether it is the last page/],
      [pages.write(objects).replace("false", "maybe"), /whether it is the last page/],
      [pages.write(objects).replace("false", ""), /whether it is the last page/],
      [pages.write(objects).replace("false", "true"), /no token/],
      [pages.write(objects, "t").replace(">t<", "><"), /no token/],
      [pages.write(objects, "t").replace("<IsTruncated>", "<IsTruncated>false</IsTruncated><IsTruncated>"), /two of/],
      [pages.write(objects).replace("<KeyCount>2<", "<KeyCount>3<"), /another count/],
      [pages.write(objects).replace("<KeyCount>2<", "<KeyCount><"), /another count/],
      [pages.write(objects).replace("<EncodingType>url<", "<EncodingType>base64<"), /unknown encoding/],
      [pages.write(objects).replace("<Size>0</Size>", ""), /without a size/],
      [pages.write(objects).replace("<Size>0</Size>", "<Size/>"), /no whole number/],
      [pages.write(objects).replace("<Size>0<", "<Size>-1<"), /no whole number/],
      [pages.write(objects).replace("<Size>0<", "<Size>1e3<"), /no whole number/],
      [pages.write(objects).replace("<Size>0<", "<Size>9999999999999999<"), /no whole number/],
      [pages.write(objects).replace("<Size>0<", "<Size>1</Size><Size>1<"), /two sizes/],
      [pages.write(objects).replace("<Key>", "<Key>x</Key><Key>"), /two keys/],
      [pages.write(objects).replace("<ETag>", "<ETag>x</ETag><ETag>"), /two etags/],
      [
        pages
          .write(objects)
          .replace("<LastModified>", "<LastModified>2024-01-01T00:00:00Z</LastModified><LastModified>"),
        /two dates/
      ],
      [pages.write(objects).replace("<Key>", "<Key></Key><No>").replace("</Key>", "</No>"), /no end of|without a key/],
      [pages.write(objects).replace(/<Key>[^<]*<\/Key>/, "<Key/>"), /without a key/],
      [pages.write(objects).replace("</Key>", "</Kex>"), /no end of <Key>/],
      [pages.write(objects).replace("</Contents>", ""), /no end of <Contents>|two/],
      [pages.write(objects).replace("&quot;", "&nbsp;"), /unknown entity/],
      [pages.write(objects).replace("&quot;", "& "), /unknown entity/],
      [pages.write(objects).replace("&quot;", "&#xd800;"), /unknown entity/],
      [pages.write(objects).replace("%C3%A4", "%C3"), /encoding/],
      [pages.write(objects).replace("2023-", "2023/"), /date/],
      [pages.write(objects).replace(/<LastModified>[^<]*/, "<LastModified>yesterday"), /date/],
      [pages.write(objects).replace(/<LastModified>[^<]*/, "<LastModified>2023-13-01T00:00:00Z"), /date/],
      [pages.write(objects).replace(/<LastModified>[^<]*/, "<LastModified>2023-01-01T00:00:00.Z"), /date/],
      [pages.write(objects).replace(/<LastModified>[^<]*/, "<LastModified>2023-01-01T00:00:00+01:00"), /date/],
      [pages.write(objects).replace("<Contents>", "text<Contents>"), /text where there is none/],
      [pages.write(objects).replace("<Contents>", "<!-- c --><Contents>"), /tag that cannot be read/],
      [
        pages.write(objects).replace("<Contents>", "<Deep>".repeat(40) + "</Deep>".repeat(40) + "<Contents>"),
        /too deep/
      ]
    ]
    for (const [text, detail] of others) {
      assert.strictEqual(reasonOf(text), "Decode", text)
      assert.match(detailOf(text), detail, text)
    }
    assert.strictEqual(reasonOf(Uint8Array.from([...bytes("<ListBucketResult><A>"), 0xff])), "Truncated")
    const invalid = bytes(pages.write([{ key: "Q", size: 1 }], undefined, { ...pages.plain, encoding: "none" }))
    invalid[invalid.indexOf(0x51)] = 0xff
    assert.strictEqual(reasonOf(invalid), "Decode")
  })

  it("O1 keeps the milliseconds that a server gives, and what an etag is", () => {
    const dates: ReadonlyArray<readonly [text: string, millis: number]> = [
      ["2024-02-29T23:59:59Z", Date.UTC(2024, 1, 29, 23, 59, 59)],
      ["2024-02-29T23:59:59.5Z", Date.UTC(2024, 1, 29, 23, 59, 59, 500)],
      ["2024-02-29T23:59:59.123456789Z", Date.UTC(2024, 1, 29, 23, 59, 59, 123)]
    ]
    for (const [text, lastModifiedMillis] of dates) {
      const page = pages.write([{ key: "a", size: 1, lastModifiedMillis: 0 }]).replace("1970-01-01T00:00:00.000Z", text)
      assert.deepStrictEqual(scanned(page), Either.right({ objects: [{ key: "a", size: 1, lastModifiedMillis }] }))
    }
  })

  it("O5 that is empty but not the last one is a page", () => {
    assert.deepStrictEqual(scanned(pages.write([], "more")), Either.right({ objects: [], next: "more" }))
    assert.deepStrictEqual(scanned(pages.write([])), Either.right({ objects: [] }))
  })
})
