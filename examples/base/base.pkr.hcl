# The base image the other examples start from, made from Debian's packages.
# Only Ingot has the builder "debootstrap".
#
#   ingot build examples/base

variable "suite" {
  type        = string
  default     = "bookworm"
  description = "Debian release, by its code name."
}

variable "packages" {
  type        = list(string)
  default     = []
  description = "Packages to add to the base system."
}

variable "disk_size" {
  type        = string
  default     = "4G"
  description = "Size of the disk. The root file system grows with the disk of the machine."
}

variable "output_directory" {
  type        = string
  default     = ".ingot/base"
  description = "Where the image is put."
}

variable "image_name" {
  type        = string
  default     = "debian-12-amd64"
  description = "File name of the image, without its extension."
}

source "debootstrap" "debian" {
  suite            = var.suite
  architecture     = "amd64"
  packages         = var.packages
  disk_size        = var.disk_size
  format           = "qcow2"
  output_directory = var.output_directory
  image_name       = var.image_name
}

build {
  sources = ["source.debootstrap.debian"]
}
