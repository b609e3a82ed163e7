// A key and a certificate for localhost that it has signed itself, as PEM files: what a server
// under TLS is given. Gone with the object; a server has read them by then.
#pragma once

#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>

#include "absl/strings/str_cat.h"
#include "config/daemon_config.h"

namespace holdfast {

class SelfSignedCertificate final {
 public:
  SelfSignedCertificate() {
    static std::atomic<int> count{0};
    const std::string stem = absl::StrCat(testing::TempDir(), "/tls_", getpid(), "_", count++);
    files_ = {.certificate_path = stem + ".crt", .key_path = stem + ".key"};
    Write();
  }
  ~SelfSignedCertificate() {
    std::remove(files_.certificate_path.c_str());
    std::remove(files_.key_path.c_str());
  }
  SelfSignedCertificate(const SelfSignedCertificate&) = delete;

  const TlsConfig& files() const { return files_; }
  std::string certificate() const {  // PEM: what a client trusts
    std::ifstream file(files_.certificate_path);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  }

 private:
  void Write() const {
    EVP_PKEY* key = EVP_EC_gen("P-256");
    X509* certificate = X509_new();
    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -60);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_set_pubkey(certificate, key);
    X509_NAME* name = X509_get_subject_name(certificate);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char*>("localhost"), -1, -1, 0);
    X509_set_issuer_name(certificate, name);
    X509_EXTENSION* names =
        X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, "DNS:localhost");
    X509_add_ext(certificate, names, -1);
    X509_EXTENSION_free(names);
    EXPECT_GT(X509_sign(certificate, key, EVP_sha256()), 0);
    std::FILE* file = std::fopen(files_.certificate_path.c_str(), "w");
    ASSERT_NE(file, nullptr);
    PEM_write_X509(file, certificate);
    std::fclose(file);
    file = std::fopen(files_.key_path.c_str(), "w");
    ASSERT_NE(file, nullptr);
    PEM_write_PrivateKey(file, key, nullptr, nullptr, 0, nullptr, nullptr);
    std::fclose(file);
    X509_free(certificate);
    EVP_PKEY_free(key);
  }

  TlsConfig files_;
};

}  // namespace holdfast
