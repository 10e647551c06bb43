"""OpenAI's own client against `samebits serve`: vectors in both encodings, usage, the errors that it knows.

    pip install openai && python3 tests/reference/check_openai.py target/release/samebits FILE.sbi EMBEDDER_FOLDER
"""
import subprocess
import sys

import openai

program, index, embedder = sys.argv[1:4]
command = [program, "serve", index, "--port", "0", "--embedder", embedder, "--token", "sk-of-this-test"]
server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
try:
    base = server.stdout.readline().strip() + "/v1"
    client = openai.OpenAI(base_url=base, api_key="sk-of-this-test")
    texts = ["The moon pulls the sea.", "salt"]
    coded = client.embeddings.create(model="any", input=texts)  # the client asks for base64
    plain = client.embeddings.create(model="any", input=texts, encoding_format="float")
    for i, (a, b) in enumerate(zip(coded.data, plain.data, strict=True)):
        assert a.index == b.index == i and len(a.embedding) == len(b.embedding) > 0
        # Shortest digits of f32 in one, its bytes in the other.
        assert max(abs(x - y) for x, y in zip(a.embedding, b.embedding)) < 1e-7
    assert coded.usage.prompt_tokens == coded.usage.total_tokens > 0
    for expected, key, text in [(openai.AuthenticationError, "wrong", "x"), (openai.BadRequestError, "sk-of-this-test", [[1, 2]])]:
        try:
            openai.OpenAI(base_url=base, api_key=key, max_retries=0).embeddings.create(model="any", input=text)
            raise SystemExit(f"no {expected.__name__}")
        except expected as error:
            assert error.body["message"], error
    print(f"openai {openai.__version__}: {len(coded.data)} vectors of {len(coded.data[0].embedding)}, {coded.usage.total_tokens} tokens")
finally:
    server.terminate()
    server.wait()
