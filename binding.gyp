{
  "variables": { "node_shared_openssl%": "false" },
  "targets": [
    {
      "target_name": "waymark",
      "sources": [
        "native/addon.cc",
        "native/port.cc",
        "native/pcap_port.cc",
        "native/afpacket_port.cc",
        "native/pair_port.cc",
        "native/pcap_file.cc",
        "native/fanout.cc",
        "native/groups.cc",
        "native/interface_info.cc",
        "native/memory.cc",
        "native/clock.cc",
        "native/crypto.cc",
        "native/privileges.cc",
        "native/output.cc"
      ],
      "defines": ["NAPI_VERSION=8"],
      "cflags_cc": ["-std=c++17", "-O2", "-Wall", "-Wextra", "-fno-exceptions"],
      "libraries": ["-lpcap"],
      "conditions": [
        # Node's own binary has OpenSSL in it and its headers beside it; Debian's is linked to the system's.
        ["node_shared_openssl=='true'", { "libraries": ["-lcrypto"] }]
      ]
    }
  ]
}
