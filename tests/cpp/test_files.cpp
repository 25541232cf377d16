// Untrusted files: every file either loads or throws Error with a message.
#include "helpers.h"

#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <iterator>
#include <map>
#include <string>

#include "files/json.h"
#include "files/safetensors.h"
#include "model_files.h"
#include "rnnfast/error.hpp"

using namespace rnnfast;
using rnnfast::tests::contains;
using rnnfast::tests::sentence_of;

namespace {

std::string with_length(const std::string& header, const std::string& data = "") {
    std::string bytes(8, '\0');
    for (size_t i = 0; i < 8; ++i) bytes[i] = static_cast<char>(header.size() >> (8 * i));
    return bytes + header + data;
}

bool loads(const std::string& bytes) {
    try {
        SafetensorsFile::view(bytes, "test");
        return true;
    } catch (const Error& error) {
        CHECK(std::string(error.what()).size() > 10);
        return false;
    }
}

const std::string eight(8, '\0');
const std::string good = R"({"__metadata__":{"a":"b"},"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";

}  // namespace

TEST_CASE("a file is the same after writing and reading") {
    const std::string path = "/tmp/rnnfast-test-" + std::to_string(getpid()) + ".safetensors";
    const std::vector<float> values = {1.0f, -2.5f, 3e-40f};
    write_safetensors(
        path, {{"x", {{3}, values.data(), 3}}, {"empty", {{0, 4}, nullptr, 0}}, {"one", {{}, values.data(), 1}}},
        {{"note", "tab\t quote\" é"}});
    const auto file = SafetensorsFile::open(path);
    CHECK(file.metadata().at("note") == "tab\t quote\" é");
    CHECK(file.tensors().size() == 3);
    Buffer buffer;
    const float* x = file.floats("x", file.tensors().at("x"), buffer);
    CHECK(std::vector<float>(x, x + 3) == values);
    CHECK(file.tensors().at("empty").shape == std::vector<size_t>{0, 4});

    std::ifstream stream(path, std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
    unlink(path.c_str());
    CHECK(loads(bytes));
    for (size_t length = 0; length < bytes.size(); ++length) CHECK_FALSE(loads(bytes.substr(0, length)));
    CHECK_FALSE(loads(bytes + "x"));
    for (size_t i = 0; i < bytes.size(); ++i)  // must not crash; a flipped value or name may still be a valid file
        for (const int flip : {1, 0x10, 0x80, 0xff}) {
            std::string damaged = bytes;
            damaged[i] = static_cast<char>(damaged[i] ^ flip);
            loads(damaged);
        }
}

TEST_CASE("hostile headers are refused") {
    CHECK(loads(with_length(good, eight)));
    const auto replaced = [](const std::string& from, const std::string& to) {
        std::string header = good;
        header.replace(header.find(from), from.size(), to);
        return with_length(header, eight);
    };
    CHECK_FALSE(loads(replaced("F32", "F16")));
    CHECK_FALSE(loads(replaced("[2]", "[3]")));
    CHECK_FALSE(loads(replaced("[2]", "[-2]")));
    CHECK_FALSE(loads(replaced("[2]", "[2.0]")));
    CHECK_FALSE(loads(replaced("[2]", "[4294967296,4294967296,2]")));
    CHECK_FALSE(loads(replaced("[2]", "[1,1,1,1,1,1,1,1,2]")));
    CHECK_FALSE(loads(replaced("[0,8]", "[8,0]")));
    CHECK_FALSE(loads(replaced("[0,8]", "[0,18446744073709551615]")));
    CHECK_FALSE(loads(replaced("[0,8]", "[0]")));
    CHECK_FALSE(loads(replaced("\"b\"", "1")));
    CHECK_FALSE(loads(replaced("\"w\"", "\"__metadata__\"")));  // duplicate key
    CHECK_FALSE(loads(replaced("\"shape\"", "\"shale\"")));
    CHECK_FALSE(loads(with_length(
        R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
        eight.substr(0, 4))));
    CHECK_FALSE(loads(with_length(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", eight)));  // a hole
    CHECK_FALSE(loads(with_length("[]")));
    CHECK_FALSE(loads(std::string(8, '\xff')));
    CHECK_FALSE(loads(with_length(R"({"w":{"dtype":"","shape":[2],"data_offsets":[0,8]}})", eight)));
    CHECK_FALSE(loads(with_length(R"({"w":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}})", eight)));
    CHECK_FALSE(loads(with_length(R"({"w":{"dtype":["F32"],"shape":[2],"data_offsets":[0,8]}})", eight)));
    CHECK_FALSE(loads(with_length(R"({"w":{"dtype":"F4","shape":[15],"data_offsets":[0,8]}})", eight)));
    CHECK_FALSE(loads(with_length(R"({"w":{"dtype":"I64","shape":[2],"data_offsets":[0,8]}})", eight)));
    CHECK(loads(with_length("{}")));
}

namespace {

// The numbers of a tensor of two in this dtype, or the sentence it is refused with.
std::string read(const std::string& dtype, const std::string& bytes) {
    const std::string whole =
        with_length(R"({"good":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"t":{"dtype":")" + dtype +
                        R"(","shape":[2],"data_offsets":[8,)" + std::to_string(8 + bytes.size()) + "]}}",
                    eight + bytes);
    const auto file = SafetensorsFile::view(whole, "test");
    Buffer buffer;
    const float* zeros = file.floats("good", file.tensors().at("good"), buffer);
    CHECK(zeros[1] == 0);  // whatever the other value is
    try {
        const float* values = file.floats("t", file.tensors().at("t"), buffer);
        std::string text;
        for (int i = 0; i < 2; ++i) {
            char number[40];
            std::snprintf(number, sizeof number, "%.9g ", static_cast<double>(values[i]));
            text += number;
        }
        return text;
    } catch (const Error& error) {
        return error.what();
    }
}

template <class T>
std::string bytes_of_two(T a, T b) {
    const T two[] = {a, b};
    return {reinterpret_cast<const char*>(two), sizeof two};
}

}  // namespace

TEST_CASE("a tensor of a foreign dtype, or with NaN, is refused when it is asked for, and nothing else is [R6]") {
    const std::string sixteen(16, '\0');
    for (const auto& named : std::map<std::string, size_t>{{"I64", 16},
                                                           {"U64", 16},
                                                           {"I32", 8},
                                                           {"U32", 8},
                                                           {"I16", 4},
                                                           {"U16", 4},
                                                           {"U8", 2},
                                                           {"BOOL", 2},
                                                           {"F8_E4M3", 2},
                                                           {"F8_E5M2", 2},
                                                           {"F4", 1},
                                                           {"C64", 16}}) {
        const std::string& dtype = named.first;
        const size_t size = named.second;
        CAPTURE(dtype);
        CHECK(read(dtype, sixteen.substr(0, size)) ==
              "test: tensor \"t\" has dtype " + dtype + "; only F32, F64, F16, BF16 or I8 can be read as float32");
    }
    CHECK(read("F32", bytes_of_two(1.5f, -2.0f)) == "1.5 -2 ");
    CHECK(read("F64", bytes_of_two(0.1, -3e-60)) == "0.100000001 -0 ");
    CHECK(read("F64", bytes_of_two(3.4028235e38, -3.4028235677973362e38)) == "3.40282347e+38 -3.40282347e+38 ");
    CHECK(read("F16", bytes_of_two<uint16_t>(0x3c00, 0xc400)) == "1 -4 ");
    CHECK(read("F16", bytes_of_two<uint16_t>(0x7bff, 0x0001)) == "65504 5.96046448e-08 ");  // largest, smallest
    CHECK(read("F16", bytes_of_two<uint16_t>(0x83ff, 0x8000)) == "-6.09755516e-05 -0 ");    // subnormal
    CHECK(read("BF16", bytes_of_two<uint16_t>(0x3f80, 0xc080)) == "1 -4 ");
    CHECK(read("I8", bytes_of_two<int8_t>(-128, 127)) == "-128 127 ");
    const char* sentence =
        "test: tensor \"t\" has NaN or infinity at 1; the model was damaged or its training diverged";
    CHECK(read("F32", bytes_of_two(0.0f, NAN)) == sentence);
    CHECK(read("F64", bytes_of_two(0.0, static_cast<double>(INFINITY))) == sentence);
    CHECK(read("F16", bytes_of_two<uint16_t>(0, 0xfc00)) == sentence);
    CHECK(read("F16", bytes_of_two<uint16_t>(0, 0x7e01)) == sentence);
    CHECK(read("BF16", bytes_of_two<uint16_t>(0, 0x7f81)) == sentence);
    CHECK(read("F64", bytes_of_two(0.0, 3.4028235677973366e38)) ==
          "test: tensor \"t\" has a number at 1 that is too large for float32");
}

TEST_CASE("numbers at any address are read") {
    for (size_t shift = 0; shift < 4; ++shift) {
        CAPTURE(shift);
        const std::string bytes =
            with_length(R"({"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})" + std::string(shift, ' '),
                        bytes_of_two(1.5f, -2.0f));
        const auto file = SafetensorsFile::view(bytes, "test");
        Buffer buffer;
        const float* values = file.floats("t", file.tensors().at("t"), buffer);
        CHECK((values[0] == 1.5f && values[1] == -2.0f));
    }
}

TEST_CASE("a model with NaN is neither read nor written, and the sentence names the tensor") {
    const std::vector<float> numbers = {1.0f, NAN};
    const std::map<std::string, TensorView> tensors = {{"w", {{2}, numbers.data(), 2}}};
    CHECK(sentence_of<Error>([&] { safetensors_bytes(tensors, {}, "m"); }) ==
          "m: not written: \"w\" has NaN or infinity at 1; training diverged, try a smaller lr");
    const std::string bytes =
        with_length(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", bytes_of_two(1.0f, NAN));
    SafetensorsFile file = SafetensorsFile::view(bytes, "m");
    CHECK(sentence_of<Error>([&] { file.check_finite(); }) ==
          "m: tensor \"w\" has NaN or infinity at 1; the model was damaged or its training diverged");
}

TEST_CASE("a header that no reader would take is not written") {
    const std::map<std::string, std::string> metadata = {{"vocabulary", std::string(17u << 20, 'a')}};
    CHECK(contains(sentence_of<Error>([&] { safetensors_bytes({}, metadata, "m"); }),
                   "bytes, more than the largest header, 16777216; raise min_freq"));
}

TEST_CASE("JSON is read strictly") {
    CHECK(parse_json(R"( {"a": [1, -2.5e3, true, null, "\u00e9\ud83d\ude00\n"]} )").find("a")->items[4].string ==
          "é😀\n");
    const Json words = parse_json(R"(["ab", "", "é"])");
    CHECK(words.kind == Json::Kind::strings);
    CHECK((words.ends.size() == 3 && words.item(0) == "ab" && words.item(1) == "" && words.item(2) == "é"));
    CHECK(parse_json("18446744073709551").integer == 18446744073709551u);
    for (const char* text : {"",
                             "{",
                             "[1,]",
                             "{\"a\":1,}",
                             "01",
                             "1.",
                             "-",
                             "nul",
                             "\"\\x\"",
                             "\"\\ud800\"",
                             "\"\\udc00\"",
                             "\"a",
                             "1 2",
                             "{1:2}",
                             "{\"a\":1,\"a\":2}",
                             "[\"a\",1]",
                             "[\"a\",]",
                             "\"\x01\"",
                             "\"\xc0\xaf\"",
                             "\"\xed\xa0\x80\"",
                             "[[[[[[[[[[1]]]]]]]]]]",
                             "99999999999999999999"})
        CHECK_THROWS_AS(parse_json(text), Error);
}

TEST_CASE("JSON that would need much more memory than its text is refused") {
    std::string ones = "[1", members = "{\"0\":1";
    for (size_t i = 1; i < 2000; ++i) ones += ",1";
    for (size_t i = 1; i < 20'000; ++i) members += ",\"" + std::to_string(i) + "\":1";
    CHECK_THROWS_AS(parse_json(ones + ",null]"), Error);
    CHECK_THROWS_AS(parse_json(ones + ",]"), Error);
    CHECK_THROWS_AS(parse_json(ones), Error);
    const Json many = parse_json(ones + ",-2.5]");  // 8 bytes a number
    CHECK(many.kind == Json::Kind::numbers);
    CHECK((many.items.empty() && many.numbers.size() == 2001 && many.numbers[0] == 1 && many.numbers[2000] == -2.5));
    CHECK_THROWS_AS(parse_json(members + "}"), Error);
}

TEST_CASE("quoting and parsing are inverse") {
    const std::string text = "a\"b\\c\n\t\x01 é 😀";
    CHECK(parse_json(json_quoted(text)).string == text);
}
