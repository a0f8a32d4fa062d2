/**
 * Goal: requests are signed as Amazon describes it, and keys arrive byte for byte.
 *
 * Method: the examples of Amazon's documentation, and another signer for random requests.
 */
import { assert, describe, it } from "@effect/vitest"
import { AwsV4Signer } from "aws4fetch"
import { FastCheck, Redacted } from "effect"
import * as s3Address from "../../src/objects/s3Address.js"
import * as s3Signing from "../../src/objects/s3Signing.js"
import { text } from "./s3Pages.js"

const example = {
  accessKeyId: "AKIAIOSFODNN7EXAMPLE",
  secretAccessKey: Redacted.make("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
}
const exampleTime = Date.UTC(2013, 4, 24)
const exampleHost = "examplebucket.s3.amazonaws.com"

const signatureOf = (request: Partial<s3Signing.Request>) => {
  const headers = new s3Signing.Signer().sign(
    { method: "GET", host: exampleHost, path: "/", query: "", headers: {}, payload: s3Signing.sha256(""), ...request },
    example,
    "us-east-1",
    exampleTime
  )
  return headers["authorization"]?.replace(/^.*Signature=/, "")
}

describe("a signature", () => {
  it("is that of Amazon's examples: a range, an upload, a listing, a sub-resource", () => {
    assert.strictEqual(
      signatureOf({ path: "/test.txt", headers: { range: "bytes=0-9" } }),
      "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    )
    const headers = { date: "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY" }
    assert.strictEqual(
      signatureOf({
        method: "PUT",
        path: "/test%24file.text",
        headers,
        payload: s3Signing.sha256("Welcome to Amazon S3.")
      }),
      "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
    )
    assert.strictEqual(
      signatureOf({ query: s3Signing.encodeQuery({ prefix: "J", "max-keys": "2" }) }),
      "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
    )
    assert.strictEqual(
      signatureOf({ query: s3Signing.encodeQuery({ lifecycle: "" }) }),
      "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
    )
  })

  it("O6 is that of another signer, for any key, prefix, token, day, region and session", async () => {
    const signer = new s3Signing.Signer()
    const place = s3Address.custom("http://127.0.0.1:9000", "reports").place("")
    await FastCheck.assert(
      FastCheck.asyncProperty(
        text.filter(
          (key) => key !== "." && key !== ".." && s3Address.keyPath(place, key)?.sent.includes("%2F") === false
        ),
        FastCheck.dictionary(FastCheck.constantFrom("prefix", "continuation-token", "list-type", "x y"), text),
        FastCheck.constantFrom("us-east-1", "eu-west-1"),
        FastCheck.integer({ min: 0, max: Date.UTC(2100, 0) }),
        FastCheck.option(FastCheck.stringMatching(/^[\x21-\x7e]{1,20}$/), { nil: undefined }),
        FastCheck.stringMatching(/^[A-Za-z0-9+/]{1,40}$/),
        async (key, query, region, millis, token, secret) => {
          const path = s3Address.keyPath(place, key)!
          const search = s3Signing.encodeQuery(query)
          const keys = {
            accessKeyId: "AK",
            secretAccessKey: Redacted.make(secret),
            sessionToken: token === undefined ? undefined : Redacted.make(token)
          }
          const headers = { "content-type": "text/plain" }
          const ours = signer.sign(
            { method: "PUT", host: place.host, path: path.signed, query: search, headers, payload: "UNSIGNED-PAYLOAD" },
            keys,
            region,
            millis
          )
          const theirs = await new AwsV4Signer({
            url: `${place.origin}${path.sent}?${search}`,
            method: "PUT",
            headers,
            accessKeyId: "AK",
            secretAccessKey: secret,
            ...(token === undefined ? {} : { sessionToken: token }),
            service: "s3",
            region,
            datetime: ours["x-amz-date"]!,
            allHeaders: true
          }).sign()
          assert.strictEqual(ours["authorization"], theirs.headers.get("authorization"))
        }
      ),
      { numRuns: 500 }
    )
  })
})

describe("a path", () => {
  const { base, origin } = s3Address.custom("http://127.0.0.1:9000/prefix", "reports").place("")
  const virtual = s3Address.amazon("reports").place("eu-west-1")

  it("O6 goes through an address unchanged, and is decoded to the key", () => {
    const odd = ["b/../a", "../a", "./a", "b/..", "//a", "/", "a//", ".", "..", "...", "%2e%2e/a", "a\\..\\b", "?#&=+ "]
    const isSent = (place: s3Address.Place, key: string): void => {
      const path = s3Address.keyPath(place, key)!
      const url = new URL(place.origin + path.sent)
      assert.strictEqual(url.pathname, path.sent)
      assert.strictEqual(decodeURIComponent(path.sent), decodeURIComponent(place.base) + key)
      assert.strictEqual(decodeURIComponent(path.signed), decodeURIComponent(place.base) + key)
      assert.notInclude(path.signed, "%2F")
    }
    for (const key of odd) isSent({ origin, base, host: "" }, key)
    for (const key of odd) if (!/^\.\.?$/.test(key)) isSent(virtual, key)
    FastCheck.assert(
      FastCheck.property(text, FastCheck.constantFrom("", "../", "/..", "/./x"), (key, dots) => {
        isSent({ origin, base, host: "" }, key + dots)
        isSent(virtual, `${key}x${dots}`)
      }),
      { numRuns: 1000 }
    )
  })

  it("O6 is refused where no address has it: the host would get the request for its bucket", () => {
    assert.isUndefined(s3Address.keyPath(virtual, "."))
    assert.isUndefined(s3Address.keyPath(virtual, ".."))
  })
})

describe("an address", () => {
  it("O8 has the bucket in the host at Amazon, and in the path at an endpoint and for a name with dots", () => {
    const places = [
      s3Address.amazon("reports").place("eu-west-1"),
      s3Address.amazon("reports.example.com").place("eu-west-1"),
      s3Address.amazon("reports", true).place("us-east-1"),
      s3Address.amazon("reports").place("cn-north-1"),
      s3Address.custom("http://127.0.0.1:9000", "reports").place("any"),
      s3Address.custom("https://s3.example.com/base", "t:reports").place("any"),
      s3Address.custom("https://s3.example.com", "reports", false).place("any")
    ]
    assert.deepStrictEqual(
      places.map(({ base, origin }) => origin + base),
      [
        "https://reports.s3.eu-west-1.amazonaws.com/",
        "https://s3.eu-west-1.amazonaws.com/reports.example.com/",
        "https://s3.us-east-1.amazonaws.com/reports/",
        "https://reports.s3.cn-north-1.amazonaws.com.cn/",
        "http://127.0.0.1:9000/reports/",
        "https://s3.example.com/base/t%3Areports/",
        "https://reports.s3.example.com/"
      ]
    )
    for (const { host, origin } of places) assert.strictEqual(new URL(origin).host, host)
  })
})
