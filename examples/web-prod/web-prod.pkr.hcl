# A web server as it goes into production. See README.md.

packer {
  required_plugins {
    qemu = {
      source  = "github.com/hashicorp/qemu"
      version = ">= 1.0.0"
    }
  }
}

locals {
  base_image = var.base_image != "" ? var.base_image : "${path.root}/../../.ingot/base/debian-12-amd64.qcow2"
  checksum   = var.base_checksum != "" ? var.base_checksum : var.base_image != "" ? "none" : "file:${local.base_image}.sha256"
  image_name = "web-prod-${var.image_version}"

  tags = {
    name                = "web-prod"
    version             = var.image_version
    architecture        = "x86_64"
    virtualization_type = "hvm"
    base                = basename(local.base_image)
  }
}

source "qemu" "web" {
  disk_image       = true
  iso_url          = local.base_image
  iso_checksum     = local.checksum
  skip_resize_disk = true
  format           = "qcow2"
  disk_discard     = "unmap"

  memory   = var.memory
  cpus     = var.cpus
  headless = true

  output_directory = var.output_directory
  vm_name          = "${local.image_name}.qcow2"

  ssh_username     = "root"
  ssh_timeout      = "10m"
  shutdown_timeout = "5m"
}

build {
  name    = "web-prod"
  sources = ["source.qemu.web"]

  provisioner "shell" {
    script = "${path.root}/scripts/packages.sh"
  }

  provisioner "file" {
    source      = "${path.root}/files/"
    destination = "/tmp"
  }

  provisioner "shell" {
    scripts = [
      "${path.root}/scripts/site.sh",
      "${path.root}/scripts/firewall.sh",
      "${path.root}/scripts/upgrades.sh",
      "${path.root}/scripts/release.sh",
    ]
    env = {
      IMAGE_NAME          = local.tags.name
      IMAGE_VERSION       = local.tags.version
      IMAGE_BASE          = local.tags.base
      ARCHITECTURE        = local.tags.architecture
      VIRTUALIZATION_TYPE = local.tags.virtualization_type
      SITE_NAME           = var.site_name
      METRICS_FROM        = join(", ", var.metrics_from)
    }
  }

  provisioner "shell" {
    script = "${path.root}/scripts/clean.sh"
  }

  post-processor "checksum" {
    checksum_types = ["sha256"]
    output         = "${var.output_directory}/${local.image_name}.{{.ChecksumType}}"
  }

  post-processor "manifest" {
    output      = "${var.output_directory}/manifest.json"
    strip_path  = true
    custom_data = local.tags
  }
}
